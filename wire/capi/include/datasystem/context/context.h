// What calls of this thread carry.
#ifndef DATASYSTEM_CONTEXT_CONTEXT_H
#define DATASYSTEM_CONTEXT_CONTEXT_H

#include <string>

#include "datasystem/utils/status.h"

namespace datasystem {

class Context {
public:
    // Kept for the thread; nothing of this client is logged under it yet.
    static Status SetTraceId(const std::string &traceId)
    {
        for (const char letter : traceId) {
            const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z')
                               || (letter >= '0' && letter <= '9');
            if (!plain && std::string("~.-/_!@#%^&*()+=:;").find(letter) == std::string::npos) {
                return Status(K_INVALID, "The traceId contains illegal char(s).");
            }
        }
        TraceId() = traceId;
        return Status::OK();
    }

    // The tenant of clients that this thread initializes without a tenantId of their own. Calls on
    // a client of another tenant fail by name: a connection belongs to one tenant.
    static void SetTenantId(const std::string &tenantId) { TenantId() = tenantId; }

    static std::string &TraceId()
    {
        static thread_local std::string traceId;
        return traceId;
    }
    static std::string &TenantId()
    {
        static thread_local std::string tenantId;
        return tenantId;
    }
};

}  // namespace datasystem

#endif

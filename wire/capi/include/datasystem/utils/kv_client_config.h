// Settings of logs and threads that this client does not have: taken, and without effect.
#ifndef DATASYSTEM_UTILS_KV_CLIENT_CONFIG_H
#define DATASYSTEM_UTILS_KV_CLIENT_CONFIG_H

namespace datasystem {

class KVClientConfig {
public:
    class Builder {
    public:
        template <typename... Values>
        Builder &LogDir(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogName(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogWithoutPid(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &AccessLogName(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &MinLogLevel(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &VLogLevel(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &StderrThreshold(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &MaxLogSize(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &MaxLogFileNum(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogCompress(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogRetentionDay(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogToStderr(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &AlsoLogToStderr(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogOnlyWriteInfoFile(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogAsyncEnable(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogAsyncQueueSize(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &LogMonitorEnable(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &MonitorConfigPath(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &ZmqClientIoContext(Values &&...)
        {
            return *this;
        }
        template <typename... Values>
        Builder &ZmqClientIoThread(Values &&...)
        {
            return *this;
        }
        KVClientConfig Build() const { return KVClientConfig(); }
    };
};

}  // namespace datasystem

#endif

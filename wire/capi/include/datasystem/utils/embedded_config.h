// Settings of a worker inside the program; KVClient::InitEmbedded says that there is none yet.
#ifndef DATASYSTEM_UTILS_EMBEDDED_CONFIG_H
#define DATASYSTEM_UTILS_EMBEDDED_CONFIG_H

namespace datasystem {

class EmbeddedConfig {
public:
    template <typename... Values>
    EmbeddedConfig &Address(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EtcdAddress(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &SharedMemorySizeMb(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &UnixDomainSocketDir(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EnableHugeTlb(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EnableFallocate(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &SharedMemoryPopulate(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EnableThp(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &ArenaPerTenant(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EnableUrma(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &UrmaPollSize(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &UrmaRegisterWholeArena(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &UrmaEventMode(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &LogDir(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &MinLogLevel(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &MaxLogSize(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &VLogLevel(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &RequestSampleRate(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &AccessSampleRate(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &DiagnosticSampleRate(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &SlowLogProcessSlowerThan(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &SlowLogRpcSlowerThan(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &RocksdbStoreDir(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &RocksdbMaxOpenFile(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &RocksdbBackgroundThreads(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &RocksdbWriteMode(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EnableRedirect(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &EnableDataReplication(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &SetArg(Values &&...)
    {
        return *this;
    }
    template <typename... Values>
    EmbeddedConfig &SetArgs(Values &&...)
    {
        return *this;
    }
};

}  // namespace datasystem

#endif

// A secret: wiped when it goes.
#ifndef DATASYSTEM_UTILS_SENSITIVE_VALUE_H
#define DATASYSTEM_UTILS_SENSITIVE_VALUE_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace datasystem {

class SensitiveValue {
public:
    SensitiveValue() = default;
    SensitiveValue(const char *text) : SensitiveValue(std::string(text == nullptr ? "" : text)) {}
    SensitiveValue(const std::string &text) : bytes_(text.begin(), text.end()) {}
    SensitiveValue(const char *data, size_t size) : bytes_(data, data + (data == nullptr ? 0 : size))
    {
    }
    SensitiveValue(std::unique_ptr<char[]> data, size_t size) : SensitiveValue(data.get(), size)
    {
        Wipe(data.get(), data == nullptr ? 0 : size);
    }
    SensitiveValue(const SensitiveValue &other) = default;
    SensitiveValue(SensitiveValue &&other) noexcept : bytes_(std::move(other.bytes_)) {}
    SensitiveValue &operator=(const SensitiveValue &other)
    {
        if (this != &other) {
            Clear();
            bytes_ = other.bytes_;
        }
        return *this;
    }
    SensitiveValue &operator=(SensitiveValue &&other) noexcept
    {
        if (this != &other) {
            Clear();
            bytes_ = std::move(other.bytes_);
            other.bytes_.clear();
        }
        return *this;
    }
    ~SensitiveValue() { Clear(); }

    bool operator==(const SensitiveValue &other) const { return bytes_ == other.bytes_; }
    bool Empty() const { return bytes_.empty(); }
    const char *GetData() const { return bytes_.data(); }
    size_t GetSize() const { return bytes_.size(); }
    void Clear()
    {
        Wipe(bytes_.data(), bytes_.size());
        bytes_.clear();
    }

private:
    static void Wipe(char *data, size_t size)
    {
        // Volatile, or the compiler leaves out writes that nobody reads.
        volatile char *bytes = data;
        for (size_t index = 0; index < size; ++index) {
            bytes[index] = 0;
        }
    }

    std::vector<char> bytes_;
};

}  // namespace datasystem

#endif

// A borrowed run of bytes: a value to be written.
#ifndef DATASYSTEM_UTILS_STRING_VIEW_H
#define DATASYSTEM_UTILS_STRING_VIEW_H

#include <cstddef>
#include <string>
#include <string_view>

namespace datasystem {

class StringView : public std::string_view {
public:
    constexpr StringView() = default;
    constexpr StringView(const char *text) : std::string_view(text == nullptr ? "" : text) {}
    constexpr StringView(const char *data, size_t size) : std::string_view(data, size) {}
    constexpr StringView(std::string_view view) : std::string_view(view) {}
    StringView(const std::string &text) : std::string_view(text) {}

    std::string ToString() const { return std::string(data(), size()); }
};

}  // namespace datasystem

#endif

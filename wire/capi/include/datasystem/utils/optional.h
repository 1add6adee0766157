// A value or none: what a batch answers for each key.
#ifndef DATASYSTEM_UTILS_OPTIONAL_H
#define DATASYSTEM_UTILS_OPTIONAL_H

#include <optional>

namespace datasystem {

template <typename T>
class Optional : public std::optional<T> {
public:
    using std::optional<T>::optional;
    using std::optional<T>::operator=;
    Optional() = default;
};

}  // namespace datasystem

#endif

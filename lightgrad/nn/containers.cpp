#include "lightgrad/nn/containers.h"

namespace lg::nn {

namespace {
std::int64_t checked_index(const List& list, std::int64_t i, std::int64_t end) {
  const std::int64_t at = i < 0 ? i + list.size() : i;
  if (at < 0 || at >= end) {
    fail(ErrorKind::index, list.type_name(), "no module ", i, " in a list of ", list.size());
  }
  return at;
}
}  // namespace

const Ref<Module>& List::at(std::int64_t i) const {
  return *entries()[static_cast<std::size_t>(checked_index(*this, i, size()))]->child;
}
void List::append(Ref<Module> m) { register_module(std::to_string(size()), std::move(m)); }
void List::set(std::int64_t i, Ref<Module> m) {
  register_module(std::to_string(checked_index(*this, i, size())), std::move(m));
}
void List::insert(std::int64_t i, Ref<Module> m) {
  i = checked_index(*this, i, size() + 1);
  append(std::move(m));
  for (std::int64_t k = size() - 1; k > i; --k) {
    std::swap(*entries()[static_cast<std::size_t>(k)]->child,
              *entries()[static_cast<std::size_t>(k - 1)]->child);
  }
}
void List::erase(std::int64_t i) {
  i = checked_index(*this, i, size());
  for (std::int64_t k = i; k + 1 < size(); ++k) {
    std::swap(*entries()[static_cast<std::size_t>(k)]->child,
              *entries()[static_cast<std::size_t>(k + 1)]->child);
  }
  remove(std::to_string(size() - 1));
}

Module& ModuleDict::operator[](std::string_view key) const {
  const Entry* e = find(key);
  if (!e || !*e->child) fail(ErrorKind::index, type_name(), "no module \"", key, "\"");
  return **e->child;
}

Tensor Sequential::forward(const Tensor& x) const {
  Tensor y = x;
  for (std::int64_t i = 0; i < size(); ++i) {
    const Ref<Module>& link = at(i);
    if (!link) fail_missing_module();
    y = call(*link, y);
  }
  return y;
}

}  // namespace lg::nn

// module.h: the tree of layers: names, parameters, buffers, children, modes, state, hooks, error
// paths. A layer derives from Module and has a `forward` of any signature, which is not virtual:
// how members are declared and calls are made stands in members.h. Knows nothing of Python (see
// counted.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lightgrad/base/where.h"
#include "lightgrad/nn/counted.h"
#include "lightgrad/tensor/tensor.h"

namespace lg::nn {

enum class Kind : std::uint8_t { parameter, buffer, child };

// One name of a module. The value lies in the C++ member that declared it, or in the entry itself.
struct Entry {
  std::string name;
  Kind kind;
  bool persistent = true;  // part of the state dict
  bool declared = false;   // a C++ member: it may be emptied, never removed
  Tensor* tensor;
  Ref<Module>* child;
  bool (*fits)(const Module&) = nullptr;  // what a typed C++ member accepts
  const std::type_info* wants = nullptr;
  Tensor own_tensor;
  Ref<Module> own_child;
};

// How to enter the forward of a class whatever its signature: directly, or by asking an override
// first.
struct Class {
  const std::type_info* signature = nullptr;
  bool unary = false;  // Tensor forward(const Tensor&): a link of a Sequential
  void (*direct)() = nullptr;
  void (*overridable)() = nullptr;               // set by the binding
  Ref<Module> (*copy)(const Module&) = nullptr;  // members copied, see clone()
  const std::type_info* type = nullptr;
  const char* name = nullptr;  // set by the binding
};

// Before forward, a hook may replace the tensors in `in`; after it, the result `out` (null before,
// and when forward does not give exactly one tensor).
struct Hook {
  int id;
  bool before;
  std::function<void(Module&, std::span<Tensor> in, Tensor* out)> run;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using NamedModules = std::vector<std::pair<std::string, Module*>>;

struct LoadResult {
  std::vector<std::string> missing, unexpected;
};

class Module : public Counted {
 public:
  Module();
  Module(const Module&);  // shares parameters and children; the deep copy is clone()
  Module& operator=(const Module&) = delete;
  ~Module() override;

  bool training = true;
  bool overridden = false;     // a foreign class may have its own forward
  const Class* cls = nullptr;  // of the most derived C++ class

  // --- names ---
  const std::vector<std::unique_ptr<Entry>>& entries() const { return entries_; }
  Entry* find(std::string_view name) const {
    for (const auto& e : entries_)
      if (e->name == name) return e.get();
    return nullptr;
  }
  void register_parameter(std::string_view name, Tensor value);  // undefined: the name alone
  void register_buffer(std::string_view name, Tensor value, bool persistent = true);
  void register_module(std::string_view name, Ref<Module> value);
  void clear_entry(std::string_view name);  // its value; the name keeps its place
  bool remove(std::string_view name);       // false when there is none; an error for a C++ member
  void drop_references();                   // children and hooks, to break cycles

  // --- the tree; names are dotted paths ---
  NamedModules named_modules() const;  // each module once, parents first
  NamedModules named_children() const;
  PoolVector<Module*> children() const;
  NamedTensors named_parameters() const;  // each tensor once
  NamedTensors named_buffers() const;
  std::vector<Tensor> parameters() const;
  std::vector<Tensor> buffers() const;
  void apply(const std::function<void(Module&)>& f);  // children first
  void zero_grad() const;
  void requires_grad_(bool on = true) const;

  void train(bool on = true);
  void eval() { train(false); }
  void set_training(bool on);  // what train() does unless it is overridden

  // Floating-point parameters and buffers (and gradients) get another element type; every Tensor
  // keeps its identity, so ties and optimizers survive.
  void to(DType dtype);
  // The same for all parameters and buffers, on another device; nothing has changed on an error.
  void to(Device device);

  // --- state: every name, shared or not; persistent buffers only; detached, sharing memory ---
  NamedTensors state_dict() const;
  // Copies values by name, converting dtypes. A wrong shape, and with `strict` a missing or an
  // unexpected name, is a ValueError that lists all of them; then nothing has changed.
  LoadResult load_state_dict(const NamedTensors& state, bool strict = true);
  LoadResult load_state_dict(const std::map<std::string, Tensor>& state, bool strict = true) {
    return load_state_dict(NamedTensors(state.begin(), state.end()), strict);
  }

  // --- text ---
  std::string type_name() const;
  virtual std::string extra_repr() const { return {}; }
  std::string to_string(int indent = 0) const;                // the tree, as PyTorch prints it
  std::optional<std::string> path_to(const Module& m) const;  // the dotted path of a descendant

  // --- hooks; a handle is for remove_hook ---
  using HookFunction = decltype(Hook::run);
  int register_forward_pre_hook(HookFunction f) { return add_hook(true, std::move(f)); }
  int register_forward_hook(HookFunction f) { return add_hook(false, std::move(f)); }
  void remove_hook(int id);
  const std::vector<Hook>* hooks() const { return hooks_.get(); }
  void run_hooks(bool before, std::span<Tensor> in, Tensor* out);

 private:
  template <class T> friend class Child;
  template <Kind kind> friend class Member;

  Entry& add(std::string_view name, Kind kind);
  void set_tensor(std::string_view name, Kind kind, Tensor value, bool persistent);
  void declare(const char* name, Kind kind, Tensor* at);
  void declare(const char* name, Ref<Module>* at, bool (*fits)(const Module&),
               const std::type_info& wants);
  // While a module is being copied: its member at `old_at` has its counterpart at `at`. Else
  // nothing.
  static void redeclare(const void* old_at, void* at);
  int add_hook(bool before, HookFunction f);

  std::vector<std::unique_ptr<Entry>> entries_;  // in order of declaration
  std::unique_ptr<std::vector<Hook>> hooks_;     // rare, so one pointer
};

// "We are inside this module" for errors and graph pictures: two stores to enter. The path is
// worked out only when somebody asks.
class Scope : public Frame {
 public:
  explicit Scope(const Module& m) : Frame{current_frame, &m, &path_of} { current_frame = this; }
  ~Scope() { current_frame = outer; }
  Scope(const Scope&) = delete;

 private:
  static std::string path_of(const Frame* frame);
};

[[noreturn]] void fail_forward(const Module& m,
                               bool unary);  // called with other arguments than it takes
[[noreturn]] void fail_no_forward(const Module& m);
[[noreturn]] void fail_missing_module();

namespace detail {
std::string plain_name(const std::type_info& type);  // without namespaces

inline thread_local const Module* construction_site = nullptr;  // where the next module begins
inline thread_local Module* copy_under_way = nullptr;           // whose members are being copied

class Construction {
 public:
  explicit Construction(const Module* at) : outer_copy_(std::exchange(copy_under_way, nullptr)) {
    construction_site = at;
  }
  ~Construction() {
    construction_site = nullptr;
    copy_under_way = outer_copy_;
  }
  Construction(const Construction&) = delete;

 private:
  Module* outer_copy_;
};
}  // namespace detail

// What deep copies have met: what was shared in the original is shared in the copy.
struct CopyMemo {
  std::unordered_map<const TensorImpl*, Tensor> tensors;
  std::unordered_map<const Module*, Ref<Module>> modules;
};
Tensor deep_copy(const Tensor& t, CopyMemo& memo);
Ref<Module> deep_copy(const Module& m, CopyMemo& memo);
Ref<Module> deep_copy(const Module& m);

}  // namespace lg::nn

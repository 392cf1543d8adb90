// A reference to something callable, for the time of a call. Unlike std::function it never allocates.
#pragma once

#include <type_traits>
#include <utility>

namespace littlefoot {

template <typename Signature>
class FunctionRef;

template <typename Result, typename... Arguments>
class FunctionRef<Result(Arguments...)> {
  public:
    template <typename Callable, typename = std::enable_if_t<!std::is_same_v<std::decay_t<Callable>, FunctionRef>>>
    FunctionRef(Callable&& callable)  // NOLINT: a lambda converts where it is passed
        : callable_(const_cast<void*>(static_cast<const void*>(&callable))),
          call_([](void* at, Arguments... arguments) -> Result {
              return (*static_cast<std::remove_reference_t<Callable>*>(at))(std::forward<Arguments>(arguments)...);
          }) {}
    Result operator()(Arguments... arguments) const { return call_(callable_, std::forward<Arguments>(arguments)...); }

  private:
    void* callable_;
    Result (*call_)(void*, Arguments...);
};

}  // namespace littlefoot

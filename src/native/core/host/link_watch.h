#pragma once

#include <cstdint>

#include "core/sys/sys_result.h"
#include "core/sys/unique_fd.h"

namespace tunsock {

/// What became of an interface.
struct LinkState {
  bool up = false;       // IFF_UP
  bool present = false;  // false: deleted, or moved to another namespace
};

/// Hears when one interface goes up, goes down or goes away: an rtnetlink socket whose filter lets through
/// only that interface's messages, so that many watches cost nothing. It hears of the network namespace that
/// it was opened in. rtnetlink(7), net/core/rtnetlink.c.
class LinkWatch {
 public:
  /// Watches interface `index` of the calling thread's namespace. `watch` changes only when all went well.
  static SysResult Open(uint32_t index, LinkWatch* watch);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const LinkState& state() const { return state_; }

  /// Brings state() up to date, however many messages were queued or lost; never blocks. Returns 1 when it
  /// changed, 0 when not, or a negative errno.
  SysResult Drain();

 private:
  /// Asks for the interface; ReadQueue takes in the answer.
  SysResult Ask() const;
  SysResult ReadQueue();
  void Take(const uint8_t* bytes, size_t length);

  UniqueFd fd_;
  uint32_t index_ = 0;
  LinkState state_;
};

}  // namespace tunsock

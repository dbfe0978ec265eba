// The other end of gdb's remote protocol: Vellum as a client of another emulator's stub.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "debug/gdb_packets.h"
#include "state/error.h"

namespace vellum {

class GdbClient {
 public:
  // One register of the stub, where its bytes stand in the answer to "g".
  struct Register {
    std::string name;
    unsigned number, offset, bytes;
  };

  // `where` is unix:PATH or tcp:[HOST]:PORT. Asks the stub for its registers, too.
  static Result<std::unique_ptr<GdbClient>> connect(const std::string& where);
  ~GdbClient();
  GdbClient(const GdbClient&) = delete;

  // Sends a packet, and waits so many milliseconds for its answer.
  Result<std::string> ask(std::string_view packet, int timeout = kUsualTimeout);
  const std::vector<Register>& registers() const { return m_registers; }
  // What the stub says of its registers' values, as Register::offset says.
  struct Values {
    std::string bytes;         // 0 where it is not known
    std::vector<bool> known;   // by byte: the stub describes the register, and may still have no value for it
    bool has(const Register& reg) const { return reg.offset + reg.bytes <= bytes.size(); }
    bool knows(const Register& reg) const;
    std::string_view of(const Register& reg) const { return std::string_view(bytes).substr(reg.offset, reg.bytes); }
    bool operator==(const Values&) const = default;
  };
  Result<Values> read_registers();
  // The stub ended: its program is gone, with this status where it said so.
  const std::optional<std::string>& end() const { return m_end; }
  // One instruction, or to a breakpoint. Returns the stub's answer.
  Result<std::string> resume(char how, int timeout = kUsualTimeout);

 private:
  static constexpr int kUsualTimeout = 120'000;
  GdbClient(int descriptor, std::string where);
  Result<void> read_description();
  Result<std::string> read_feature(const std::string& name);
  Error failed(std::string_view what) const;

  int m_descriptor;
  std::string m_where;
  GdbPackets m_packets;
  std::string m_answer;
  bool m_answered = false, m_broken = false;
  std::vector<Register> m_registers;
  std::optional<std::string> m_end;
};

}  // namespace vellum

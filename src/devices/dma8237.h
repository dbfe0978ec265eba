// The two 8237A DMA controllers of the PC, with the page registers.
#pragma once

#include <array>
#include <span>

#include "devices/device.h"
#include "devices/port_bus.h"
#include "mmu/address_space.h"

namespace vellum {

// From the device's side: ToMemory is the 8237's "write transfer", FromMemory its "read transfer".
enum class DmaDirection : u8 { ToMemory, FromMemory };

struct DmaResult {
  usize transferred;    // bytes
  bool terminal_count;  // TC was pulsed with the last byte; what the device had left was not moved
};

// Sources: Intel 8237A datasheet (order number 231466-005); IBM PC AT Technical Reference, "DMA" for the page registers
// and the word addresses of channels 5 to 7.
// Ports 00h-0Fh (channels 0-3), C0h-DFh (4-7; 4 is the cascade), 80h-8Fh (page registers; the unused ones keep a byte,
// and 80h is where POST codes go).
class Dma8237Pair : public Device, public PortHandler {
 public:
  explicit Dma8237Pair(AddressSpace& memory);

  // Moves up to data.size() bytes between a device and memory through `channel` (0..3 bytes, 5..7 words: data.size() is
  // rounded down to even), until TC or the data ends. Moves nothing when the channel is masked, disabled, in cascade
  // mode or programmed for the other direction. In verify mode addresses and counts run, and no byte moves (ToMemory
  // data is dropped; FromMemory data is left as it is).
  DmaResult transfer(unsigned channel, std::span<u8> data, DmaDirection direction);
  // Whether transfer() in that direction would move something now.
  bool ready(unsigned channel, DmaDirection direction) const;
  // DREQ, as the status register shows it.
  void set_request(unsigned channel, bool level);
  // Bytes left until TC.
  usize remaining(unsigned channel) const;
  bool autoinitialize(unsigned channel) const;

  std::string_view name() const override { return "dma8237"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  struct Channel {
    u16 base_address = 0, base_count = 0;
    u16 address = 0, count = 0;
    u8 mode = 0;
    void visit(Archive& archive);
  };
  struct Controller {
    std::array<Channel, 4> channels;
    u8 command = 0;
    u8 mask = 0xf;
    u8 software_requests = 0;
    u8 requests = 0;  // DREQ lines
    u8 terminal_counts = 0;
    u8 temporary = 0;
    bool high_byte = false;  // the byte pointer flip-flop
    void visit(Archive& archive);
  };

  u8 read_register(Controller& controller, unsigned index);
  void write_register(Controller& controller, unsigned index, u8 value);
  void master_clear(Controller& controller);
  u32 physical_address(unsigned channel) const;

  // Wiring.
  AddressSpace& m_memory;
  // Guest-visible state.
  struct State {
    std::array<Controller, 2> controllers;
    std::array<u8, 16> pages{};
  } m_state;
};

}  // namespace vellum

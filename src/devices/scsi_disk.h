// A SCSI disk with a removable medium: the commands of SPC-3 and SBC-2, apart from how they come and go.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "state/archive.h"
#include "storage/block_device.h"

namespace vellum {

class ScsiDisk {
 public:
  enum class Direction : u8 { None, In, Out };  // In: to the host
  static constexpr usize kCommandSize = 16;

  // `medium` may be null: an empty drive.
  ScsiDisk(std::unique_ptr<BlockDevice> medium, std::string serial);

  // -- the user's side ----------------------------------------------------------------------------------------------
  void insert(std::unique_ptr<BlockDevice> medium);
  // Takes the medium out. False while the guest prevents that, unless `force` is set.
  bool eject(bool force);
  BlockDevice* medium() { return m_medium.get(); }
  std::string describe() const;  // one line for `info block`
  Result<void> flush();

  // -- the transport's side -----------------------------------------------------------------------------------------
  // Begins a command, of which bytes that are not there are zeroes. What it moves goes by give() or take(), and when
  // data_left() is zero it is over.
  void start(std::span<const u8> command);
  Direction direction() const;
  u64 data_left() const { return m_state.data_length - m_state.data_done; }
  // The next bytes to the host, at most data_left(). Returns how many there are: fewer after an error.
  usize give(std::span<u8> data);
  // The next bytes from the host, at most data_left(). After an error nothing is left.
  void take(std::span<const u8> data);
  // The rest of the command's data will not be moved.
  void abandon() { m_state.data_length = m_state.data_done; }
  // CHECK CONDITION: the sense data say why.
  bool failed() const { return m_state.failed; }
  void reset();     // a hard reset of the logical unit
  void power_on();
  void visit(Archive& archive);

 private:
  static constexpr usize kReplySize = 256;
  enum class Source : u8 { Reply, Read, Write, Compare, Count };

  void fail(u8 sense_key, u8 code, u8 qualifier = 0);
  void invalid_field();
  void reply(std::span<const u8> data, u64 allocation_length);
  bool medium_present() const { return m_medium && m_medium->size() >= kSectorSize && !m_state.ejected; }
  bool medium_ready();  // false after a NOT READY error
  u64 blocks() const { return medium_present() ? m_medium->size() / kSectorSize : 0; }
  u64 field(unsigned offset, unsigned bytes) const;  // big-endian, of the command
  // The first block and number of blocks of a command by its group code (SPC-3 4.3.4).
  struct Extent {
    u64 block, count;
  };
  Extent extent() const;
  bool blocks_exist(Extent extent);
  void start_blocks(Source source);
  bool load_block();
  void store_block();
  void end_of_block();
  void inquiry();
  void request_sense();
  void read_capacity();
  void read_capacity_16();
  void read_format_capacities();
  void mode_sense(bool ten);
  void start_stop_unit();
  void prevent_allow();
  void synchronize_cache();
  void verify();
  void report_luns();

  // Configuration.
  std::unique_ptr<BlockDevice> m_medium;
  std::string m_serial;
  // Guest-visible state.
  struct State {
    std::array<u8, kCommandSize> command{};
    Source source = Source::Reply;
    u64 data_length = 0, data_done = 0;       // of the command at hand, in bytes
    u64 first_block = 0;                      // of its data, when they are the medium's
    std::array<u8, kReplySize> reply{};
    std::array<u8, kSectorSize> block{};      // the block of the data at hand
    bool force_access = false;                // the command's FUA bit
    bool failed = false;
    u8 sense_key = 0, sense_code = 0, sense_qualifier = 0;
    u32 information = 0;                      // the block where it went wrong
    bool information_valid = false;
    u8 unit_attention = 0;                    // additional sense code to report next: 28h medium changed, 29h reset; 0: none
    u64 medium_size = 0;                      // bytes, when it was saved; 0: none
    bool ejected = false;                     // by the guest: a medium that has not been taken away yet
    bool stopped = false, locked = false;
  } m_state;
};

}  // namespace vellum

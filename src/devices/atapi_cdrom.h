// An ATAPI CD-ROM drive (ATA/ATAPI-6 PACKET feature set, SFF-8020i, MMC-3).
#pragma once

#include <array>
#include <memory>
#include <string>

#include "devices/ide_drive.h"
#include "storage/block_device.h"

namespace vellum {

class AtapiCdrom : public IdeDrive {
 public:
  // `medium` may be null: an empty drive.
  explicit AtapiCdrom(std::unique_ptr<BlockDevice> medium, std::string serial = "VL00003",
                      std::string model = "VELLUM DVD-ROM");

  // The user's side: puts a disc in (closing the tray) or takes it out. eject() returns false while the guest has
  // locked the tray, unless `force` is set; the guest is told of the request by GET EVENT STATUS NOTIFICATION.
  void insert(std::unique_ptr<BlockDevice> medium);
  bool eject(bool force = false);
  bool tray_open() const { return m_packet.tray_open; }
  bool locked() const { return m_packet.locked; }
  BlockDevice* medium() { return m_medium.get(); }

  std::string describe() const override;
  Result<void> flush() override { return {}; }

 protected:
  void execute(u8 command) override;
  void block_done() override;
  usize next_dma_piece() override;
  void dma_piece_done(usize length) override;
  void dma_finished() override;
  void set_signature() override;
  void drive_reset(bool hard) override;
  void visit_drive(Archive& archive) override;

 private:
  static constexpr usize kPacketSize = 12, kReplySize = 512;
  enum class Source : u8 { Reply, Medium, Count };

  // atapi_cdrom.cc: the ATA side.
  void identify_packet();
  void set_features();
  void reject_with_signature();
  void serve();                      // the next part of the data, or the end of the command
  bool fill(std::span<u8> data);     // the next data.size() bytes of it; false after a medium error
  u64 data_left() const { return m_packet.data_length - m_packet.data_done; }

  // atapi_commands.cc: the packet commands.
  void execute_packet();
  void packet_error(u8 sense_key, u8 code, u8 qualifier = 0);
  void packet_done();
  void reply(std::span<const u8> data, u32 allocation_length);
  bool medium_ready();               // false after a NOT READY error
  bool frames_exist(u64 frame, u64 count);
  u32 frames() const;
  bool dvd() const { return frames() > kLongestCd; }
  void read_frames(u32 frame, u32 count, u8 parts);
  void request_sense();
  void inquiry();
  void read_toc();
  void read_sub_channel();
  void get_configuration();
  void get_event_status();
  void mode_sense(bool ten);
  void mechanism_status();
  void read_disc_information();
  void read_track_information();
  void read_cd(bool msf);
  void read_dvd_structure();
  void start_stop_unit();
  void prevent_allow();
  u32 packet_field(unsigned offset, unsigned bytes) const;  // big-endian

  static constexpr u32 kLongestCd = 100 * 60 * 75;  // frames; a longer image is taken for a DVD

  // Configuration.
  std::unique_ptr<BlockDevice> m_medium;
  std::string m_serial, m_model;
  // Guest-visible state.
  struct PacketState {
    std::array<u8, kPacketSize> packet{};
    bool dma = false;            // features bit 0 of the PACKET command at hand
    u32 byte_count_limit = 0;    // of one DRQ block
    Source source = Source::Reply;
    u64 data_length = 0;         // bytes that the command at hand returns
    u64 data_done = 0;           // of them handed over
    std::array<u8, kReplySize> reply{};
    u32 frame = 0;               // first frame of the data, when it comes from the medium
    u8 frame_parts = 0;          // which parts of each frame (CdFramePart)
    u8 sense_key = 0, sense_code = 0, sense_qualifier = 0;
    u8 unit_attention = 0;       // additional sense code to report next: 28h medium changed, 29h reset; 0: none
    u8 media_event = 0;          // MMC-3 6.6.1.4's event code, reported once
    u64 medium_size = 0;         // bytes, when it was saved; 0: no disc
    bool tray_open = false;
    bool locked = false;
    u8 transfer_mode_ultra = 5, transfer_mode_multiword = 0xff;  // 0xff: none selected
  } m_packet;
};

}  // namespace vellum

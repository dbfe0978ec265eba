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
  bool dma_piece_done(usize length) override;
  void dma_finished(bool complete) override;
  void set_signature() override;
  void drive_reset(bool hard) override;
  void visit_drive(Archive& archive) override;

 private:
  static constexpr usize kPacketSize = 12;
  static constexpr u32 kFrameSize = 2048;  // user data of a mode 1 sector
  static constexpr u32 kRawFrameSize = 2352;

  void identify_packet();
  void set_features();
  void execute_packet();
  void packet_error(u8 sense_key, u8 code, u8 qualifier = 0);
  void packet_done();
  void reply(std::span<const u8> data, u32 allocation_length);
  void start_read(u32 frame, u32 frames, u8 parts);
  void continue_data_in();
  void serve_pio();
  bool fill_from_medium(usize room);
  bool medium_ready();
  u32 frames() const;

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

  // Configuration.
  std::unique_ptr<BlockDevice> m_medium;
  std::string m_serial, m_model;
  // Guest-visible state.
  struct PacketState {
    std::array<u8, kPacketSize> packet{};
    bool dma = false;            // features bit 0 of the PACKET command at hand
    u32 byte_count_limit = 0;    // of one DRQ block
    u32 pending = 0;             // bytes in the buffer not yet given to the host
    u32 pending_start = 0;
    u32 frame = 0;               // next frame to read
    u32 frames_left = 0;
    u8 frame_parts = 0x10;       // READ CD's byte 9: which parts of a frame are wanted
    u8 sense_key = 0, sense_code = 0, sense_qualifier = 0;
    u8 unit_attention = 0;       // additional sense code to report next: 28h medium changed, 29h reset; 0 none
    u8 media_event = 0;          // MMC-3 6.6.1.4's event code, reported once
    bool tray_open = false;
    bool locked = false;
    u8 transfer_mode_ultra = 5, transfer_mode_multiword = 0xff;
  } m_packet;
};

}  // namespace vellum

// An ATA hard disk (ATA/ATAPI-6): PIO, multiple and DMA transfers with 28- and 48-bit addresses.
#pragma once

#include <memory>
#include <string>

#include "devices/ide_drive.h"
#include "storage/block_device.h"

namespace vellum {

// Geometry as the drive reports it; what a BIOS makes of it (translation) is the BIOS's own.
struct DiskGeometry {
  u32 cylinders, heads, sectors;
};
// ATA-6 Annex D's default translation: 16 heads, 63 sectors, at most 16383 cylinders.
DiskGeometry default_disk_geometry(u64 sectors);

class AtaDisk : public IdeDrive {
 public:
  AtaDisk(std::unique_ptr<BlockDevice> medium, DiskGeometry geometry, std::string serial,
          std::string model = "VELLUM HARDDISK");
  // With the default geometry of a disk of this size.
  AtaDisk(std::unique_ptr<BlockDevice> medium, std::string serial);

  DiskGeometry geometry() const { return m_geometry; }
  u64 sectors() const { return m_sectors; }
  BlockDevice& medium() { return *m_medium; }

  std::string describe() const override;
  Result<void> flush() override { return m_medium->flush(); }

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
  enum class Width : u8 { Lba28, Lba48 };
  void identify();
  void set_features();
  void smart();
  bool take_address(Width width);  // the task file's address and count; false after an error
  void put_address(u64 sector);    // into the task file, in the form in which the command gave its own
  void start_read(Width width, bool multiple);
  void start_write(Width width, bool multiple);
  void start_dma_command(Width width, bool to_memory);
  void verify(Width width);
  void load_block();               // the next DRQ block of a read
  void advance(u32 sectors);
  u32 block_sectors() const;       // of the DRQ block at hand
  bool read_medium(u64 sector, std::span<u8> data);
  bool write_medium(u64 sector, std::span<const u8> data);
  void read_native_max(Width width);

  // Configuration.
  std::unique_ptr<BlockDevice> m_medium;
  std::string m_serial, m_model;
  u64 m_sectors;
  DiskGeometry m_geometry;
  // Guest-visible state.
  struct DiskState {
    u64 sector = 0;          // the next one of the command at hand
    u32 remaining = 0;       // sectors of the command not yet moved
    u32 block_sectors = 1;   // sectors in one DRQ block of it
    Width width = Width::Lba28;
    bool chs = false;        // the command's address was CHS
    u32 multiple = 0;        // SET MULTIPLE MODE; 0: disabled
    u32 heads = 16, sectors_per_track = 63;  // INITIALIZE DEVICE PARAMETERS
    bool write_cache = true;
    bool look_ahead = true;
    bool smart_enabled = true;
    bool keep_settings = false;  // SET FEATURES 66h: a software reset changes none of the above
    u8 transfer_mode_ultra = 5, transfer_mode_multiword = 0xff;  // 0xff: none selected
    u8 power_mode = 0xff;    // CHECK POWER MODE's answer: FFh active, 00h standby, 80h idle
    bool sleeping = false;
  } m_disk;
};

}  // namespace vellum

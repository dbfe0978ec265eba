// A USB mass-storage device: a removable SCSI disk behind the Bulk-Only Transport.
#pragma once

#include <memory>
#include <string>

#include "devices/scsi_disk.h"
#include "devices/usb_function.h"

namespace vellum {

// Source: USB Mass Storage Class, Bulk-Only Transport 1.0; section numbers are its.
class UsbStorage final : public UsbFunction {
 public:
  // `number` tells several of them apart. `medium` may be null: an empty drive.
  UsbStorage(unsigned number, std::unique_ptr<BlockDevice> medium);

  ScsiDisk& disk() { return m_disk; }

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

 protected:
  UsbAnswer transfer(UsbToken token, u8 endpoint, std::span<u8> data) override;
  bool class_request(u8 type, u8 request, u16 value, u16 index) override;
  void function_reset() override;
  void configured() override;
  void halt_cleared(u8 endpoint_address) override;

 private:
  enum class Phase : u8 {
    Command,   // a command block wrapper is awaited
    DataIn,
    DataOut,
    Status,    // the command status wrapper is to be fetched
    Unusable,  // something that was no wrapper came: both endpoints stay halted until a reset (6.6.1)
    Count
  };
  enum class Status : u8 { Passed, Failed, PhaseError, Count };  // table 5.3

  UsbAnswer from_host(std::span<const u8> data);
  UsbAnswer to_host(std::span<u8> data);
  void command(std::span<const u8> wrapper);
  void begin(bool host_reads);
  UsbAnswer data_to_host(std::span<u8> data);
  UsbAnswer status_to_host(std::span<u8> data);
  void end_data(Status status);
  Status command_status() const { return m_disk.failed() ? Status::Failed : Status::Passed; }

  // Configuration.
  std::string m_name, m_serial;
  // Guest-visible state, beside the control endpoint's.
  ScsiDisk m_disk;
  struct State {
    Phase phase = Phase::Command;
    u32 tag = 0;
    u32 requested = 0;  // dCBWDataTransferLength
    u32 moved = 0;      // of it
    u32 processed = 0;  // of it, by the disk: the rest is the residue
    Status status = Status::Passed;
  } m_state;
};

}  // namespace vellum

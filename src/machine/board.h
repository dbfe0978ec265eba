// What the machine asks of its board: the parts around the CPUs that differ from board to board.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/device.h"
#include "devices/key_code.h"
#include "devices/screen_source.h"
#include "state/error.h"
#include "state/integers.h"
#include "storage/image.h"

namespace vellum {

class Board {
 public:
  virtual ~Board() = default;
  virtual std::string_view name() const = 0;  // as spelled after -machine

  // The CPU's side of the interrupt controllers; see CpuEnvironment. `cpu` is the CPU's number.
  virtual std::optional<u8> acknowledge_interrupt(unsigned cpu) = 0;
  virtual u8 task_priority(unsigned cpu) = 0;
  virtual void set_task_priority(unsigned cpu, u8 priority) = 0;
  virtual void time_stamp_counter_written(unsigned cpu) = 0;
  virtual bool read_apic_msr(unsigned cpu, u32 index, u64& value) = 0;
  virtual bool write_apic_msr(unsigned cpu, u32 index, u64 value) = 0;
  virtual bool send_interrupt(u32 apic_id, u32 command) = 0;
  virtual void set_smm(unsigned cpu, bool active) = 0;
  // FERR#, the FPU's error pin.
  virtual void set_ferr(unsigned cpu, bool level) = 0;
  // INIT# has just reset this CPU: its local APIC follows.
  virtual void cpu_initialised(unsigned cpu) = 0;

  // The user pressed the power button.
  virtual void press_power_button() = 0;
  // A key of the PC's keyboard went down or up.
  virtual void key(KeyCode code, bool down) = 0;
  // A mouse moved by counts to the right and down, its wheel by notches (positive away from the user); bits of `buttons` that
  // are set are down now: left, right, middle, fourth, fifth.
  virtual void move_pointer(int dx, int dy, int wheel, u8 buttons) = 0;
  // Whether a pointer that knows its place is there and the guest's driver listens to it.
  virtual bool pointer_is_absolute() const = 0;
  // Its place, 0..32767 from the screen's left and top edge. Only while pointer_is_absolute().
  virtual void place_pointer(u16 x, u16 y, int wheel, u8 buttons) = 0;
  // The drives whose medium can be changed, by the names that `info block` shows ("ide1-0", "floppy0").
  virtual std::vector<std::string> removable_drives() = 0;
  // Opens the image and puts it into the drive in place of what is in it. A drive that the guest has locked keeps its
  // medium, and the guest is told of the wish, unless `force` is set.
  virtual Result<void> change_medium(std::string_view drive, ImageOptions image, bool force) = 0;
  // Takes the medium out, under the same condition.
  virtual Result<void> eject_medium(std::string_view drive, bool force) = 0;
  // What the first graphics adapter shows; null without one.
  virtual ScreenSource* screen() = 0;
  // Puts back what the firmware expects to find after a reset; runs after every device and CPU was reset.
  virtual void reset(ResetKind kind) = 0;
  // What is in the drives, in the order of the drives.
  virtual std::vector<BlockDevice*> inserted_media() = 0;
  // Writes what disks still hold in caches to the host's files, and makes it survive a crash of the host.
  virtual Result<void> flush_disks() = 0;
  // The text of `info TOPIC` for what only the board knows (block, pci, pic, screen); empty when it has no such topic.
  virtual std::optional<std::string> describe(std::string_view topic) = 0;
};

}  // namespace vellum

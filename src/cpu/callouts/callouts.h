// Instructions that become functions of the VMM: everything that touches system state.
#pragma once

#include "cpu/core.h"
#include "cpu/semantics/context.h"

namespace vellum::semantics {}

namespace vellum::callouts {

// Each runs with the state complete and s.rip at the next instruction; see Callout in cpu/core.h.
#define VELLUM_CALLOUT(name) void name(CpuCore& cpu, const BoundInsn& insn)

// interrupts.cc
VELLUM_CALLOUT(software_interrupt);   // INT n
VELLUM_CALLOUT(breakpoint_interrupt); // INT3
VELLUM_CALLOUT(overflow_interrupt);   // INTO
VELLUM_CALLOUT(debug_interrupt);      // INT1
VELLUM_CALLOUT(bound);
VELLUM_CALLOUT(interrupt_return);

// hypercall.cc
VELLUM_CALLOUT(hypercall);            // VMCALL, VMMCALL

// segments.cc
VELLUM_CALLOUT(move_to_segment);
VELLUM_CALLOUT(move_from_segment);
template <unsigned Segment> VELLUM_CALLOUT(push_segment);
template <unsigned Segment> VELLUM_CALLOUT(pop_segment);
template <unsigned Segment> VELLUM_CALLOUT(load_far_pointer);  // LDS, LES, LSS, LFS, LGS
VELLUM_CALLOUT(load_ldt);
VELLUM_CALLOUT(load_task_register);
VELLUM_CALLOUT(store_ldt);
VELLUM_CALLOUT(store_task_register);
VELLUM_CALLOUT(load_gdt);
VELLUM_CALLOUT(load_idt);
VELLUM_CALLOUT(store_gdt);
VELLUM_CALLOUT(store_idt);
VELLUM_CALLOUT(load_access_rights);
VELLUM_CALLOUT(load_segment_limit);
VELLUM_CALLOUT(verify_read);
VELLUM_CALLOUT(verify_write);
VELLUM_CALLOUT(adjust_rpl);
VELLUM_CALLOUT(swap_gs);
template <unsigned Segment> VELLUM_CALLOUT(read_segment_base);   // RDFSBASE, RDGSBASE
template <unsigned Segment> VELLUM_CALLOUT(write_segment_base);  // WRFSBASE, WRGSBASE

// far_transfers.cc
VELLUM_CALLOUT(jump_far);
VELLUM_CALLOUT(call_far);
VELLUM_CALLOUT(jump_far_indirect);
VELLUM_CALLOUT(call_far_indirect);
VELLUM_CALLOUT(return_far);

// control_registers.cc
VELLUM_CALLOUT(move_to_control);
VELLUM_CALLOUT(move_from_control);
VELLUM_CALLOUT(move_to_debug);
VELLUM_CALLOUT(move_from_debug);
VELLUM_CALLOUT(load_machine_status);
VELLUM_CALLOUT(store_machine_status);
VELLUM_CALLOUT(clear_task_switched);
VELLUM_CALLOUT(invalidate_page);
VELLUM_CALLOUT(invalidate_pcid);
VELLUM_CALLOUT(invalidate_caches);
VELLUM_CALLOUT(halt);
VELLUM_CALLOUT(monitor);
VELLUM_CALLOUT(monitor_wait);

// msr.cc
VELLUM_CALLOUT(read_msr);
VELLUM_CALLOUT(write_msr);
VELLUM_CALLOUT(read_time_stamp);
VELLUM_CALLOUT(read_time_stamp_and_id);
VELLUM_CALLOUT(read_performance_counter);
VELLUM_CALLOUT(read_processor_id);
VELLUM_CALLOUT(read_random);
VELLUM_CALLOUT(identify);  // CPUID

// flags.cc
VELLUM_CALLOUT(push_flags);
VELLUM_CALLOUT(pop_flags);
VELLUM_CALLOUT(clear_interrupt_flag);
VELLUM_CALLOUT(set_interrupt_flag);
VELLUM_CALLOUT(clear_alignment_check);
VELLUM_CALLOUT(set_alignment_check);

// io.cc
template <unsigned Size> VELLUM_CALLOUT(input_immediate);  // Size in bytes; 0: by operand size (2 or 4)
template <unsigned Size> VELLUM_CALLOUT(input_dx);
template <unsigned Size> VELLUM_CALLOUT(output_immediate);
template <unsigned Size> VELLUM_CALLOUT(output_dx);
template <unsigned Size> VELLUM_CALLOUT(input_string);
template <unsigned Size> VELLUM_CALLOUT(output_string);

// syscall.cc
VELLUM_CALLOUT(system_enter);
VELLUM_CALLOUT(system_exit);
VELLUM_CALLOUT(system_call);
VELLUM_CALLOUT(system_return);

// smm.cc
VELLUM_CALLOUT(resume_from_smm);

// x87_state.cc
VELLUM_CALLOUT(x87_load_environment);
VELLUM_CALLOUT(x87_store_environment);
VELLUM_CALLOUT(x87_restore);
VELLUM_CALLOUT(x87_save);

// xsave.cc
VELLUM_CALLOUT(load_mxcsr);
VELLUM_CALLOUT(fx_save);
VELLUM_CALLOUT(fx_restore);
VELLUM_CALLOUT(x_save);
VELLUM_CALLOUT(x_save_optimized);
VELLUM_CALLOUT(x_save_compacted);
VELLUM_CALLOUT(x_save_supervisor);
VELLUM_CALLOUT(x_restore);
VELLUM_CALLOUT(x_restore_supervisor);
VELLUM_CALLOUT(get_extended_control);
VELLUM_CALLOUT(set_extended_control);
VELLUM_CALLOUT(read_protection_keys);
VELLUM_CALLOUT(write_protection_keys);

}  // namespace vellum::callouts

// Which specializations of its semantics a row has: the step from notation to Form that all engines share.
#pragma once

#include "cpu/opcode_row.h"
#include "cpu/semantics/context.h"

namespace vellum {

namespace row_forms {

template <class S>
consteval FlagEffect flags_of() {
  if constexpr (requires { S::kFlags; }) return S::kFlags;
  else return {};
}
template <class S>
consteval FlagProducer producer_of() {
  if constexpr (requires { S::kProducer; }) return S::kProducer;
  else return FlagProducer::Unknown;
}
// After which producers a semantics that reads flags has a form of its own.
template <class S>
consteval FlagProducers known_producers_of() {
  if constexpr (requires { S::kKnownProducers; }) return S::kKnownProducers;
  else if constexpr (flags_of<S>().read != 0 && flags_of<S>().written == 0) return flag_producers(FlagProducer::Subtract, FlagProducer::Logic);
  else return 0;
}
template <class S>
consteval Flow flow_of() {
  if constexpr (requires { S::kFlow; }) return S::kFlow;
  else return Flow::Next;
}

consteval u8 width_in_bytes(OperandWidth width, u8 operand_size) {
  switch (width) {
    case OperandWidth::B: return 1;
    case OperandWidth::W: return 2;
    case OperandWidth::D: return 4;
    case OperandWidth::Q: return 8;
    case OperandWidth::V: return operand_size;
    case OperandWidth::Y: return operand_size == 8 ? 8 : 4;
    case OperandWidth::Z: return operand_size == 2 ? 2 : 4;
    case OperandWidth::X: return 16;
    case OperandWidth::QQ: return 32;
    case OperandWidth::T: return 10;
    case OperandWidth::SignedB: return operand_size;
    default: return operand_size;
  }
}

consteval OperandForm operand_form(OperandSpec operand, u8 operand_size, bool memory) {
  OperandForm form;
  form.size = width_in_bytes(operand.width, operand_size);
  switch (operand.kind) {
    case OperandKind::None: return {};
    case OperandKind::GprOrMemory: form.place = memory ? Place::Memory : Place::Register; break;
    case OperandKind::Memory:
    case OperandKind::AbsoluteOffset: form.place = Place::Memory; break;
    case OperandKind::XmmOrMemory:
    case OperandKind::MmxOrMemory:
      form.place = memory ? Place::Memory : Place::Register;
      form.vector = true;
      break;
    case OperandKind::XmmInReg:
    case OperandKind::XmmInModrm:
    case OperandKind::XmmVvvv:
    case OperandKind::XmmInImmediate:
    case OperandKind::XmmVsibIndex:
    case OperandKind::MmxInReg:
    case OperandKind::MmxInModrm:
      form.place = Place::Register;
      form.vector = true;
      break;
    case OperandKind::Gpr:
    case OperandKind::GprInModrm:
    case OperandKind::GprInOpcode:
    case OperandKind::GprVvvv:
    case OperandKind::FixedAl:
    case OperandKind::FixedCl:
    case OperandKind::FixedDx:
    case OperandKind::FixedAx:
    case OperandKind::FixedRax: form.place = Place::Register; break;
    case OperandKind::Immediate:
      form.place = operand.width == OperandWidth::V && operand_size == 8 ? Place::WideImmediate : Place::Immediate;
      if (operand.width == OperandWidth::Z) form.size = operand_size;  // sign-extended, SDM Vol. 1 3.6.1
      break;
    case OperandKind::FixedOne: form.place = Place::One; break;
    default: form.place = Place::Number; break;
  }
  return form;
}

consteval bool uses_operand_size(const RowSpec& row) {
  // A row whose operands all have fixed sizes still varies when its semantics uses the operand size (near branches,
  // stack instructions): those have no or only immediate operands.
  bool fixed = row.operands[0].kind != OperandKind::None;
  for (const OperandSpec& operand : row.operands) {
    switch (operand.width) {
      case OperandWidth::V: case OperandWidth::Y: case OperandWidth::Z: case OperandWidth::SignedB:
      case OperandWidth::NoAccess: case OperandWidth::Far: return true;
      default: break;
    }
    if (operand.kind == OperandKind::Immediate || operand.kind == OperandKind::Relative) {
      if (row.operands[0].kind == operand.kind) fixed = false;
    }
    if (operand.kind == OperandKind::StringSource || operand.kind == OperandKind::StringDestination) fixed = false;
  }
  return !fixed;
}

consteval Form form_of(const RowSpec& row, u8 operand_size, bool memory, bool locked, bool plain_address = false) {
  Form form;
  form.operand_size = uses_operand_size(row) ? operand_size : 0;
  form.locked = locked;
  form.vex = row.vex;
  form.plain_address = plain_address;
  for (usize i = 0; i < 4; ++i) {
    form.operand[i] = operand_form(row.operands[i], operand_size, memory);
    form.absolute |= row.operands[i].kind == OperandKind::AbsoluteOffset;
  }
  return form;
}

consteval bool has_place(const RowSpec& row, bool memory) {
  if (row.modrm_rule == ModrmRule::Memory) return memory;
  if (row.modrm_rule == ModrmRule::Register) return !memory;
  bool either = false, absolute = false;
  for (const OperandSpec& operand : row.operands) {
    either |= operand.kind == OperandKind::GprOrMemory || operand.kind == OperandKind::XmmOrMemory ||
              operand.kind == OperandKind::MmxOrMemory;
    absolute |= operand.kind == OperandKind::AbsoluteOffset;
  }
  return memory ? either || absolute : !absolute;
}

// The instruction leaves all flags alone if its count is 0, and otherwise overwrites them all.
template <class S>
consteval bool count_decides() {
  if constexpr (requires { S::kCountDecides; }) return S::kCountDecides;
  else return false;
}

// What becomes of the x87 register stack, for semantics that have to do with it.
template <class S>
consteval X87Effect x87_effect() {
  if constexpr (requires { S::kX87Effect; }) return S::kX87Effect;
  else return {};
}

template <class S>
consteval bool never_faults() {
  if constexpr (requires { S::kNeverFaults; }) return S::kNeverFaults;
  else return false;
}

}  // namespace row_forms

}  // namespace vellum

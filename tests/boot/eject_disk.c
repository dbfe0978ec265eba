// Ejects the SCSI disk that is named, as eject(1) does: unlocks it, then ejects it. A program without a C library.

static int call(int number, int a, int b, int c) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}
enum { kExit = 1, kOpen = 5, kIoctl = 54, kNonBlocking = 0x800 };  // arch/x86/entry/syscalls/syscall_32.tbl

__attribute__((used)) static void run(const int* arguments) {
  if (arguments[0] != 2) call(kExit, 1, 0, 0);
  const int disk = call(kOpen, arguments[2], kNonBlocking, 0);
  if (disk < 0) call(kExit, 2, 0, 0);
  if (call(kIoctl, disk, 0x5381, 0) < 0) call(kExit, 3, 0, 0);  // SCSI_IOCTL_DOORUNLOCK
  if (call(kIoctl, disk, 0x5309, 0) < 0) call(kExit, 4, 0, 0);  // CDROMEJECT
  call(kExit, 0, 0, 0);
}

// The number of arguments and the pointers to them are where the stack begins.
__asm__(".globl _start\n_start: push %esp\n call run\n");

// Plays a second of 1000 Hz on /dev/dsp, 48 kHz, 16 bit, stereo, with all volumes up. A program without a C library, so that
// one 32-bit binary runs under both kernels.

static int call(int number, int a, const void* b, int c) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}
enum { kExit = 1, kWrite = 4, kOpen = 5, kClose = 6, kIoctl = 54 };  // arch/x86/entry/syscalls/syscall_32.tbl

static int open_file(const char* name, int flags) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(kOpen), "b"(name), "c"(flags), "d"(0) : "memory");
  return result;
}

// linux/soundcard.h
static int set(int file, unsigned request, int value) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(kIoctl), "b"(file), "c"(request), "d"(&value) : "memory");
  return result < 0 ? result : value;
}

static short samples[2 * 4800];

void _start(void) {
  int mixer = open_file("/dev/mixer", 2);
  if (mixer < 0) call(kExit, 1, 0, 0);
  set(mixer, 0xc0044d00, 100 | 100 << 8);  // SOUND_MIXER_WRITE_VOLUME
  set(mixer, 0xc0044d04, 100 | 100 << 8);  // SOUND_MIXER_WRITE_PCM
  int sound = open_file("/dev/dsp", 1);
  if (sound < 0) call(kExit, 2, 0, 0);
  if (set(sound, 0xc0045005, 0x10) != 0x10) call(kExit, 3, 0, 0);  // SNDCTL_DSP_SETFMT, AFMT_S16_LE
  if (set(sound, 0xc0045006, 2) != 2) call(kExit, 4, 0, 0);        // SNDCTL_DSP_CHANNELS
  int rate = set(sound, 0xc0045002, 48000);                       // SNDCTL_DSP_SPEED
  if (rate < 40000 || rate > 50000) call(kExit, 5, 0, 0);
  // A point on a circle: 2 sin(pi * 1000 / rate), as a fraction of 65536, is the step.
  int step = 411480910 / rate, x = 1 << 28, y = 0;
  for (int piece = 0; piece < 10; ++piece) {
    for (int i = 0; i < 4800; ++i) {
      y += (int)((long long)x * step >> 16);
      x -= (int)((long long)y * step >> 16);
      samples[2 * i] = samples[2 * i + 1] = (short)(y >> 14);
    }
    const char* at = (const char*)samples;
    for (int left = sizeof(samples); left > 0;) {
      int written = call(kWrite, sound, at, left);
      if (written <= 0) call(kExit, 6, 0, 0);
      at += written;
      left -= written;
    }
  }
  call(kClose, sound, 0, 0);
  call(kExit, 0, 0, 0);
  for (;;) {
  }
}

"""Sets one etcd's clock off: `clock.py PID SECONDS`, while PID is about to become etcd.

A Go program asks no library for the time, so libfaketime does not reach it, and a time namespace moves no wall clock.
But it calls the kernel's own function in the vDSO, a page of code in its memory. This writes another one there: a
system call, and then the seconds on top for the wall clock (CLOCK_REALTIME) alone. x86-64 only; it needs the right
to trace.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import struct
import sys
import time
from pathlib import Path

PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 0.001
FUNCTION = b"__vdso_clock_gettime"
CLOCK_GETTIME = 228  # the number of the system call
DYNAMIC, FUNCTION_TYPE = 2, 2
STRING_TABLE, SYMBOL_TABLE, HASH_TABLE = 5, 6, 4


class ClockError(Exception):
    """The clock cannot be set off; the message says why."""


def code(seconds: int) -> bytes:
    """clock_gettime(clock in edi, result in rsi), with ``seconds`` added if the clock is CLOCK_REALTIME, 0."""
    return (
        b"\xb8" + struct.pack("<I", CLOCK_GETTIME) + b"\x0f\x05"  # mov eax, 228; syscall
        b"\x85\xff\x75\x07"  # test edi, edi; jne over the next
        b"\x48\x81\x06" + struct.pack("<i", seconds) +  # add qword [rsi], seconds
        b"\xc3"
    )  # fmt: skip


def place(image: bytes) -> tuple[int, int]:
    """Where in the vDSO the function is, and how long it is (ELF's dynamic symbols, elf(5)). Raises ClockError."""
    begin, size, count = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", image, begin + number * size) for number in range(count)]
    tables: dict[int, int] = {}
    for kind, _flags, offset, _address, _physical, length, *_ in headers:
        if kind == DYNAMIC:
            tables = dict(struct.iter_unpack("<QQ", image[offset : offset + length]))
    (symbols,) = struct.unpack_from("<I", image, tables[HASH_TABLE] + 4)
    for number in range(symbols):
        name, info, _other, _section, value, length = struct.unpack_from(
            "<IBBHQQ", image, tables[SYMBOL_TABLE] + number * 24
        )
        text = image[tables[STRING_TABLE] + name :].partition(b"\0")[0]
        if text == FUNCTION and info & 15 == FUNCTION_TYPE:
            return value, length
    raise ClockError(f"this kernel's vDSO has no {FUNCTION.decode()}")


def set_off(pid: int, seconds: int, program: str = "etcd") -> None:
    """Wait until ``pid`` runs the program, and set its wall clock off by ``seconds``. Raises ClockError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _runs(pid, program) or not _replaced(pid, seconds):
        if time.monotonic() > deadline:
            raise ClockError(f"process {pid} was never {program}, or always in the midst of reading the time")
        time.sleep(LOOK_SECONDS)


def impossible() -> str:
    """Why it cannot be done here; empty if it can."""
    if platform.machine() != "x86_64":
        return f"the code that is written into etcd's vDSO is for x86_64, and this is {platform.machine()}"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() and scope.exists() and scope.read_text(encoding="ascii").strip() != "0":
        return "writing into etcd's memory needs root here (kernel.yama.ptrace_scope)"
    return ""


def _runs(pid: int, program: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name == program
    return False


def _replaced(pid: int, seconds: int) -> bool:
    """Replace the function while every thread stands still outside of it; False if one is inside."""
    begin, end = _mapping(pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        if any(begin <= _instruction(thread) < end for thread in threads):
            return False
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            offset, length = place(memory.read(end - begin))
            if length < len(code(seconds)):
                raise ClockError(f"this kernel's {FUNCTION.decode()} has only {length} bytes")
            memory.seek(begin + offset)
            memory.write(code(seconds))
    finally:
        os.kill(pid, signal.SIGCONT)
    return True


def _mapping(pid: int) -> tuple[int, int]:
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith("[vdso]"):
            begin, end = line.split()[0].split("-")
            return int(begin, 16), int(end, 16)
    raise ClockError(f"process {pid} has no vDSO")


def _instruction(thread: Path) -> int:
    """Where a stopped thread stands (proc_pid_syscall(5)); waits until it has stopped."""
    while True:
        try:
            words = (thread / "syscall").read_text(encoding="ascii").split()
        except FileNotFoundError:
            return 0  # it has ended
        if words[0] != "running":
            return int(words[-1], 16)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    set_off(int(sys.argv[1]), int(sys.argv[2]))

"""The inside of the sandbox: gives up whatever it can, then becomes the program. A script of its own, run with `-I -S`.

Standard library only. Reads its request from standard input. Writes to the file descriptor named by its argument one
line with what isolation it could not have, and, once the tests have run to their end, the request's token.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

NOBODY: Final = 65534
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE, SYS_MOUNT_SETATTR = -100, 0x8000, 442  # the number is the same on every architecture
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
HIDDEN: Final = ("/tmp", "/var/tmp", "/run", "/dev/shm", "/proc")  # noqa: S108 -- hidden, not used

# What runs the program. The token comes by standard input, which is at its end when the program starts.
RUNNER: Final = """
import os, sys, types
def run(token, verdict):
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    for name in ("candidate.py", "tests.py"):
        with open(name, encoding="utf-8") as file:
            source = file.read()
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    os.write(verdict, b"\\n" + token)
verdict, sys.argv = int(sys.argv[1]), [""]
run(sys.stdin.buffer.readline(), verdict)
sys.stdout.flush()
os._exit(0)
"""

libc = ctypes.CDLL(None, use_errno=True)


class MountAttr(ctypes.Structure):
    """The argument of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def main() -> None:
    """Isolate, write the program down, and become it."""
    verdict, request = int(sys.argv[1]), json.load(sys.stdin)
    folder, python, missing = Path(request["folder"]), os.path.realpath(sys.executable), []
    if os.geteuid() == 0:
        python, dropped = drop_root(folder, python)
        missing += [] if dropped else ["user"]
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # nobody else would keep the time
    entered = request["isolate"] and enter_namespaces()
    if not entered:
        missing += ["network", "files", "processes"]
        os.write(verdict, " ".join(missing).encode())
        become(request, python, verdict, taken=own_threads())
    reap_as_first(request, python, verdict, missing)


def drop_root(folder: Path, python: str) -> tuple[str, bool]:
    """Become nobody, with Python within nobody's reach: its path there, and whether it worked."""
    prefix, reach = Path(sys.base_prefix).resolve(), folder / "python"
    with suppress(OSError):
        folder.chmod(0o711)
        reach.mkdir(mode=0o755)
        checked(libc.unshare(CLONE_NEWNS))
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount(str(prefix), str(reach), None, MS_BIND | MS_REC)
        python = str(reach / Path(python).relative_to(prefix))
    work = folder / "work"
    work.mkdir()
    try:
        os.chown(work, NOBODY, NOBODY)
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        reachable = os.access(python, os.X_OK, effective_ids=True)
        os.seteuid(0)
        os.setegid(0)
        if not reachable:
            os.chown(work, 0, 0)
            return python, False
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return python, False
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # /proc/self belongs to root otherwise
    return python, True


def enter_namespaces() -> bool:
    """Leave the network, the process table and the mounts of everybody else behind; whether the kernel let us."""
    user, group = os.geteuid(), os.getegid()
    try:
        checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    except (OSError, AttributeError):  # no such system call here, or not for us
        return False
    return True


def reap_as_first(request: dict[str, Any], python: str, verdict: int, missing: list[str]) -> None:
    """Be the first process of the new table: when it ends, the kernel ends all others."""
    if first := os.fork():
        os._exit(exit_code(os.waitpid(first, 0)[1]))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        seal_files(request, python)
    except OSError:
        missing.append("files")
    os.write(verdict, " ".join(missing).encode())
    if program := os.fork():
        while True:
            pid, status = os.wait()
            if pid == program:
                os._exit(exit_code(status))
    become(request, python, verdict, taken=0)


def seal_files(request: dict[str, Any], python: str) -> None:
    """Make every file system read-only but the program's folder, and hide what is nobody's business."""
    work = work_folder(request)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    devices = [device for device in DEVICES if Path(device).exists()]
    for device in devices:
        mount(device, device, None, MS_BIND)
    needed = [Path(p).resolve() for p in (python, sys.base_prefix)]
    for hidden in (*HIDDEN, request["home"]):
        place = Path(hidden)
        if (
            place.is_dir()
            and place.resolve() != Path("/")
            and not any(n.is_relative_to(place.resolve()) for n in needed)
        ):
            mount("tmpfs", hidden, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    work.mkdir(parents=True, exist_ok=True)
    set_attributes("/", ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0, AT_RECURSIVE)
    for device in devices:
        set_attributes(device, 0, ATTR_NODEV, 0)
    mount("tmpfs", str(work), "tmpfs", MS_NOSUID | MS_NODEV, f"size={request['limits']['folder_bytes']},mode=700")


def work_folder(request: dict[str, Any]) -> Path:
    """Where the program lives and may write."""
    return Path(request["folder"]) / "work"


def become(request: dict[str, Any], python: str, verdict: int, *, taken: int) -> None:
    """Turn into an interpreter that runs the program, within its limits and with an environment of its own."""
    work = work_folder(request)
    work.mkdir(exist_ok=True)
    os.chdir(work)
    Path("candidate.py").write_text(request["program"], encoding="utf-8")
    Path("tests.py").write_text(request["tests"], encoding="utf-8")
    read, write = os.pipe()
    os.write(write, request["token"].encode())
    os.close(write)
    os.dup2(read, 0)
    limit(request["limits"], taken)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    environment = {"HOME": str(work), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "TMPDIR": str(work)}
    os.execve(python, [python, "-I", "-S", "-B", "-c", RUNNER, str(verdict)], environment)  # noqa: S606 -- no shell


def limit(limits: dict[str, int], taken: int) -> None:
    """Bound what the process and its children may use. taken: threads of its user that count but are not its own."""
    bounds = {
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NPROC: limits["processes"] + taken,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in bounds.items():
        with suppress(ValueError, OSError):  # a stricter limit is in force already
            resource.setrlimit(kind, (most, most))


def own_threads() -> int:
    """How many threads this user has: without a namespace they all count against the limit."""
    count = 0
    with suppress(OSError):
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if process.stat().st_uid == os.geteuid():
                    count += sum(1 for _ in (process / "task").iterdir())
    return count


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Put a file system in its place. Raises: OSError."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    checked(libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def set_attributes(path: str, add: int, clear: int, flags: int) -> None:
    """Change what a mount allows. Raises: OSError."""
    attributes = MountAttr(add, clear, 0, 0)
    number, size = ctypes.c_long(SYS_MOUNT_SETATTR), ctypes.c_size_t(ctypes.sizeof(attributes))
    at, how = ctypes.c_long(AT_FDCWD), ctypes.c_ulong(flags)
    checked(libc.syscall(number, at, os.fsencode(path), how, ctypes.byref(attributes), size))


def checked(result: int) -> None:
    """Raises: OSError: a system call said no."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def exit_code(status: int) -> int:
    """The status of a child as an exit code, a signal as a shell gives it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()

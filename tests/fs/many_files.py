#!/usr/bin/env python3
"""The kernel may know any number of a mount's files; only those that are open hold a place.

Goal: a tree of more files than may be open at once can be made, looked at and read through the
mount; a file that is unlinked while it is open stays until it is closed, and then gives its space
back; the limit is one of open files, and is told as such.
usage: many_files.py PEGASUS_FS; skipped (77) where there is no /dev/fuse
"""
import errno
import os
import resource
import subprocess
import sys
import tempfile
import time

OPEN_MAX = 4096  # Options::held_max
FILES = 5000

if not os.path.exists("/dev/fuse"):
    sys.exit(77)
program = sys.argv[1]

with tempfile.TemporaryDirectory() as scratch:
    disks = [f"{scratch}/disk{i}" for i in range(5)]
    where = f"{scratch}/mount"
    os.mkdir(where)
    subprocess.run([program, "mkfs", *disks, "--size", "100M"], check=True,
                   stdout=subprocess.DEVNULL)
    process = subprocess.Popen([program, "mount", *disks, where, "--foreground"])
    try:
        while not os.path.ismount(where):
            assert process.poll() is None, "the mount ended at once"
            time.sleep(0.01)
        unlinked = os.open(f"{where}/unlinked", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(unlinked, b"here")
        os.unlink(f"{where}/unlinked")
        for i in range(FILES):
            with open(f"{where}/f{i}", "x", encoding="ascii") as f:
                f.write(str(i))
        for i in range(FILES):
            assert os.stat(f"{where}/f{i}").st_size == len(str(i))
        for i in range(0, FILES, 7):
            with open(f"{where}/f{i}", encoding="ascii") as f:
                assert f.read() == str(i)
        # What is unlinked and open is neither gone nor somebody else.
        os.pwrite(unlinked, b"still ", 0)
        assert os.pread(unlinked, 100, 0) == b"still ", "the unlinked file is another"
        assert os.fstat(unlinked).st_nlink == 0
        os.close(unlinked)
        try:
            os.open(f"{where}/f1", os.O_CREAT | os.O_EXCL)
            sys.exit("a file was made twice")
        except FileExistsError:
            pass
        # Open files are bounded.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard == resource.RLIM_INFINITY or hard > OPEN_MAX + 100:
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_MAX + 100, hard))
            held = []
            try:
                for i in range(FILES):
                    held.append(os.open(f"{where}/f{i}", os.O_RDONLY))
                sys.exit("no limit of open files")
            except OSError as e:
                assert e.errno == errno.EMFILE and len(held) <= OPEN_MAX, (e, len(held))
                assert len(held) > OPEN_MAX - 10, len(held)
            for descriptor in held:
                os.close(descriptor)
        with open(f"{where}/f2", encoding="ascii") as f:
            assert f.read() == "2"
        for i in range(FILES):
            os.unlink(f"{where}/f{i}")
        assert os.listdir(where) == []
    except BaseException:
        process.kill()
        subprocess.run(["fusermount3", "-u", "-z", where], check=False)
        raise
    subprocess.run(["fusermount3", "-u", where], check=True)
    assert process.wait() == 0, "the unmount was not clean"
    result = subprocess.run([program, "check", *disks], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
print(f"{FILES} files made, looked at, read and removed; open files bounded; check clean")

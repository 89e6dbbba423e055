"""How to look at a machine: a window, VNC, or not at all."""

import os
import subprocess

import timebase


def window_backend():
    """The window that this QEMU can open on this desktop ("gtk", "sdl"), or (None, why not)."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None, "there is no desktop (DISPLAY is not set)"
    # QEMU lists the modules it can load on its standard output only.
    listing = subprocess.run([timebase.QEMU, "-display", "help"], capture_output=True, text=True,
                             check=False).stdout.split()
    for backend in ("gtk", "sdl"):
        if backend in listing:
            return backend, ""
    return None, "this QEMU has no window; apt-get install qemu-system-gui brings it"


def choose(wanted, say):
    """QEMU's arguments for `wanted`: "auto", "window", "vnc" or "none"; says how to look."""
    if wanted in ("auto", "window"):
        backend, why = window_backend()
        if backend:
            say(f"display: a window ({backend})")
            return ("-display", backend)
        say(f"display: no window: {why}")
    if wanted == "none":
        return ("-display", "none")
    return ("-display", "none", "-vnc", "127.0.0.1:0,to=99")


def announce_vnc(run, say):
    """Print where the picture of a running machine can be seen."""
    info = run.qmp.command("query-vnc")
    if info.get("enabled"):
        port = info["service"]
        say(f"display: VNC; look with `vncviewer 127.0.0.1:{port}` "
            f"(from another machine first: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE)")

"""The shell and the domain manager: names, programs, rights, contracts, calls, wrong input."""

import pathlib
import re
import shutil
import socket
import tempfile

import qemu
import shell
import timebase


def run(context, name, script, until=None, **machine):
    """What the commands print, line by line, and their code."""
    archive = shell.make_archive(context.folder, script, name)
    booted = context.boot(archive=archive, screen=False, until=until, **machine)
    printed, code = shell.output_of(booted.text)
    assert code is not None, booted.text[-2000:]
    return [line for line in printed.splitlines() if not line.startswith("init: ")], code


def test_names(context):
    """Directories, binding, mounting, and what is there."""
    lines, code = run(context, "names", """
ls /
ls /programs
mkdir /bin; bind /bin/say /programs/echo; run /bin/say by another name
mount /bin; ls /bin; unmount /bin; ls /bin
unbind /bin/say; unbind /bin; ls /
cat /programs/echo
exit 5
""")
    programs = sorted(shell.PROGRAMS)
    expected = ["global/", "programs/", "services/", *programs, "by another name",
                *sorted([*programs, "say"]), "say", "global/", "programs/", "services/"]
    assert lines[:len(expected)] == expected, lines
    assert re.fullmatch(r"/programs/echo: a program, \d+ bytes of file", lines[-1])
    assert code == 5


def test_programs(context):
    """Run, wait, restart without relocating, instances that share their text, kill, contracts."""
    lines, code = run(context, "programs", """
run echo a 'b c' d; loader
run echo again; loader
run tenant_cxx hello; run tenant c; run tenant w
run & burn 0; run & weight=3 burn 0; run & contract=5ms/50ms burn 0; loader
top 1
qos 1 4ms/40ms; qos 2 100ms/100ms; ps
kill 1; kill 2; kill 3; ps
run crash; run burn 1 42
""")
    text = "\n".join(lines)
    # Of the two lines of the loader the second has one load more and not one relocation more.
    counts = [[int(n) for n in re.findall(r"\d+", line)] for line in lines if line.startswith("loads ")]
    assert counts[0][0] == 1 and counts[0][1] == 0 and counts[0][2] > 0, counts
    assert counts[1][0] == 2 and counts[1][1] == 1 and counts[1][2] == counts[0][2], counts
    assert counts[2][4] >= 4, f"three instances share no text: {counts}"
    assert lines[0] == "a b c d" and "again" in lines
    assert text.count("ended with 64\n") == 3, text
    top = [re.split(r"\s+", line) for line in lines if re.match(r"\d+\s+burn\s+\d+\.\d\s", line)]
    assert [row[0] for row in top] == ["2", "3", "1"], top
    share = {row[0]: float(row[2]) for row in top}
    assert 2.8 < share["2"] / share["1"] < 3.2, "weights 3 to 1 are not kept"
    assert share["3"] >= 10, "a guarantee of a tenth is not kept"
    assert re.search(r"the contract is refused; a slice of [\d.]+ ms would fit", text)
    assert re.search(r"^1 +burn +running +4 ms / 40 ms", text, re.M)
    assert lines[-1] == "instance 1 ended with 42" and code == 42
    assert "domain crash: unhandled fault 0xe" in text
    # After the kills the table is empty: its head is followed by what crash says.
    assert len(re.findall(r"^id .*\n(?=domain crash)", text, re.M)) == 1, text


def test_rights(context):
    """Nobody gives what he does not have; services are restarted; what is given comes back."""
    lines, code = run(context, "rights", """
run may=create budget=4096 grasp
run may=create budget=4096 grasp
ps
run may=machine echo x
run may=kps echo x
run memory=8 echo x
run memory=200000 echo x
run contract=90ms/100ms burn 1
run & restart=failure burn 1 3; run & restart=always burn 1 0; run & burn 1 0; sleep 400ms; ps
kill 1; kill 2; kill 3; sleep 100ms; ps
run memory=65000 burn 1
""")
    text = "\n".join(lines)
    assert code == 0, "the memory that was given did not come back: " + lines[-1]
    # grasp says by its exit code what it could take; if it could end itself, nobody could wait.
    assert not re.search(r"^instance \d+ ended|no such instance", text, re.M), text
    assert text.count("not permitted: privilege: the caller does not have it") == 2
    assert "no room: memory: more than the caller has" in text
    assert re.search(r"no room: domain", text)
    assert "refused: contract: does not fit" in text
    assert len(re.findall(r"^[12] +burn +(running|waiting) .*restarts [3-9]", text, re.M)) == 2, text
    assert re.search(r"^3 +burn +ended 0 ", text, re.M)
    assert len(re.findall(r"^id .*$", text, re.M)) == 3


def test_calls(context):
    """Calls by the description of the interface, which the shell was not built to make."""
    order = ("program=burn arguments=1 contract={slice=0 period=0 deadline=0 weight=1} privileges=0 "
             "frames=64 budget=0 stack_pages=4 restart=Never names=0")
    lines, code = run(context, "calls", """
call /services/programs programs c
call /services/programs spawn '{ORDER}'
wait 1
call /services/programs inspect 77
call /services/programs spawn x
call /services/programs nothing
call /services/programs
""".replace("ORDER", order))
    assert lines[0] == ('names = ["clock", "crash", "echo", "first_use", "grasp", "lookup", "tenant", '
                        '"tenant_cxx"]'), lines
    assert re.fullmatch(r"id = \d+", lines[1])
    assert lines[2] == "inspect fails: NotFound"
    assert lines[3].startswith("order: 'x': wanted is Order{program=string<47>")
    assert lines[4] == "there is no operation 'nothing'"
    assert any(line.startswith("wait(id: u64, at_most: u64) -> (ended: bool") for line in lines)
    assert code == 0


def test_global_names(context):
    """Services of other domains: found by name, called by description, gone with their domain."""
    lines, code = run(context, "global_names", """
ls /global; ls /global/services
mkdir /global/mine; bind /global/mine/n /global/services/names; ls /global/mine; ls /global/mine/n
run & clock; run & clock services/second; sleep 50ms; ls /global/services
call /global/services/clock read; call /global/mine/n/services/second read
cat /global/services/clock
mkdir /s; mount /s /global/services; ls /s; call /s/clock read; unmount /s
call /global/services/names room
kill 1; sleep 20ms; ls /global/services; call /global/services/clock read
unbind /global/services/second; unbind /global/mine; bind /global/mine/p /programs/echo
unbind /global/mine/n; unbind /global/mine; ls /global
run clock services/second
""")
    text = "\n".join(lines)
    # A name server's name is a mount point; beyond it are its own names, here the same again.
    assert lines[:7] == ["services/", "names/", "n/", "mine/", "services/", "instance 1", "instance 2"], lines
    assert lines[7:10] == ["clock", "names/", "second"], lines
    times = re.findall(r"^time = (\d+)\nlife = (\d+)$", text, re.M)
    assert len(times) == 3 and int(times[0][0]) < int(times[1][0]) < int(times[2][0]), times
    assert times[0][1] == times[2][1] != times[1][1]
    assert re.search(r"^read\(\) -> \(time: u64, life: u64\)", text, re.M), text
    assert re.search(r"^all = \d+\nfree = \d+\nshare = 1024\nused = 0$", text, re.M), text
    after = lines[lines.index("used = 0") + 1:]
    assert after[:3] == ["names/", "second", "/global/services/clock: no such name"], after
    assert after[3:6] == [
        "/global/services/second: somebody else has bound the name: choose another",
        "/global/mine: the directory has names in it: unbind them first",
        "/programs/echo: only this shell can use it"], after
    assert after[6] == "services/", after
    assert "clock: not published: too many calls in flight" in text and code == 3, text


def test_first_use(context):
    """A service is started by the first call of it, and again after its death: by the handle, or by
    the domain manager's policy, but never by both."""
    lines, code = run(context, "first_use", """
run may=create budget=4096 first_use never
run may=create budget=4096 first_use always
ls /global/services
""")
    ended = [line for line in lines if line.startswith("instance ")]
    assert ended == ["instance 1 ended with 3", "instance 1 ended with 1"], lines
    assert lines[-1] == "names/" and code == 0, lines


def test_wrong_input(context):
    """Whatever is typed, one line says what is wrong, and the next command works."""
    wrong = ["bogus", "'unclosed", "ls /nowhere", "ls /programs/echo", "cat /", "cat /nothing",
             "mkdir /programs/x", "mkdir //", "bind /x /nothing", "unbind /programs", "unmount /services",
             "run", "run &", "run nothing", "run /programs", "run contract=1 echo", "run may=god echo",
             "run colour=red echo", "run weight=x echo", "kill", "kill x", "kill 99", "qos 1 spare",
             "top x", "sleep 5", "exit x", "call /programs/echo", "wait 0x", "mount /nowhere",
             "run " + "echo " * 70, "run echo " + "a" * 300]
    script = "\n".join(f"{line}\necho mark" for line in wrong)
    lines, code = run(context, "wrong", script)
    assert lines.count("mark") == len(wrong)
    said = "\n".join(lines).split("mark")
    for line, answer in zip(wrong, said):
        assert len(answer.strip().splitlines()) == 1, f"{line}: {answer}"
    assert code == 0


def test_terminal(context):
    """Typed on the serial line: editing, history, completion, and the end by exit."""
    typed = ["ec\thelx\x7flo\r", "\x1b[A there\r", "ls /pro\t\r", "exit\r"]
    archive = shell.make_archive(context.folder, name="terminal")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peg-"))
    line = socket.socket(socket.AF_UNIX)
    said = ""

    def answer(text):
        nonlocal said
        said += text
        # Each empty prompt is answered once.
        while typed and said.count("nemesis> \x1b[K") > 4 - len(typed):
            if len(typed) == 4:
                line.connect(str(folder / "line"))
            line.sendall(typed.pop(0).encode())

    machine = qemu.Machine(time=timebase.waiting(), archive=archive, screen=False, serial="none", extra=(
        "-chardev", f"socket,id=typed,path={folder}/line,server=on,wait=off,"
        f"logfile={context.folder}/boot/serial.log", "-serial", "chardev:typed"))
    try:
        with line, qemu.Run(machine, context.folder / "boot") as machine_run:
            outcome = machine_run.until_end(100, on_text=answer)
    finally:
        shutil.rmtree(folder)
    assert outcome.passed, f"{outcome.reason}: {said[-1000:]}"
    # What a terminal would show: the last version of each line.
    lines = [re.sub(r"\x1b\[\d*[KCD]", "", shown).split("\r")[-1]
             for shown in said.replace("\r\n", "\n").splitlines()]
    assert "hello" in lines and "hello there" in lines, lines
    assert "tenant_cxx" in lines, "completion did not find /programs/"


def test_given_names(context):
    """A program has the names that it was given: shared ones change under it, its copies do not;
    what was not given is not there; what it binds nobody else sees; an offer of something else is
    no name space."""
    order = ("program=lookup arguments=x contract={slice=0 period=0 deadline=0 weight=1} privileges=64 "
             "frames=512 budget=0 stack_pages=16 restart=Never names=")
    lines, code = run(context, "given_names", """
run & clock; sleep 50ms; mkdir /given; mkdir /given/deep; mkdir /other; bind /other/clock /global/services/clock
bind /given/clock /global/services/clock; bind /given/deep/clock /global/services/clock; bind /given/p /programs/echo
echo all; run lookup / given/ given/clock global/services/clock programs/echo services/programs
echo part; run names=/given lookup / clock deep/clock given/clock global/services/clock other/clock p ../other/clock
echo none; run names=none lookup / given/clock global/services/clock
echo later; run & lookup +200ms given/late global/late; sleep 100ms
bind /given/late /given/clock; bind /global/late /given/clock; sleep 200ms
echo own; run lookup given/mine=given/clock given/mine global/mine=given/clock; ls /given
echo wrong; run names=/nothing lookup; run names=/given/clock lookup
OFFERS
echo again; run lookup given/mine
""".replace("OFFERS", "\n".join(f"call /services/programs spawn '{{{order}{n << 32 | 2}}}'"
                             for n in range(10))))
    parts = re.split(r"^(all|part|none|later|own|wrong|again)$", "\n".join(lines), flags=re.M)
    said = {parts[i]: parts[i + 1].strip().splitlines() for i in range(1, len(parts), 2)}
    gone = "no such name"
    assert said["all"] == ["/: given global other", "given/: clock deep", "given/clock: an object",
                           "global/services/clock: an object", f"programs/echo: {gone}",
                           f"services/programs: {gone}", "instance 2 ended with 2"], said["all"]
    assert said["part"][:3] == ["/: clock deep", "clock: an object", "deep/clock: an object"], said["part"]
    assert said["part"][3:7] == [f"{path}: {gone}" for path in
                                 ("given/clock", "global/services/clock", "other/clock", "p")], said["part"]
    assert said["part"][8:] == ["instance 2 ended with 5"], said["part"]
    assert said["none"] == ["/: global", f"given/clock: {gone}", "global/services/clock: an object",
                            "instance 2 ended with 1"], said["none"]
    assert said["later"] == ["instance 2", f"given/late: {gone}", "global/late: an object"], said["later"]
    assert said["own"][0] == "given/mine: an object" and "takes new names" in said["own"][1], said["own"]
    assert said["own"][2:] == ["instance 3 ended with 1", "clock", "deep/", "late", "p"], said["own"]
    assert said["wrong"] == [f"/nothing: {gone}", "/given/clock: a part of the path names an object, not a directory",
                             *["spawn fails: BadNames"] * 10], said["wrong"]
    assert said["again"][0] == f"given/mine: {gone}" and code == 1, said["again"]

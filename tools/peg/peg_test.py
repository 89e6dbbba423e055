"""Goal: peg's own rules hold without booting anything.

Method: command lines, exit codes, refusals and the list of running emulators, with plain processes
and plain files in the place of machines and disks.
"""

import contextlib
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import flash  # noqa: E402  (the folder is not a package)
import main  # noqa: E402
import processes  # noqa: E402
import qemu  # noqa: E402
import qmp  # noqa: E402
import timebase  # noqa: E402
from console import PegError  # noqa: E402


class CommandLine(unittest.TestCase):
    def peg(self, *arguments):
        """Exit code and messages of a call."""
        errors = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = main.dispatch(list(arguments))
        return code, errors.getvalue()

    def test_an_unknown_verb_is_one_line_and_help_and_code_2(self):
        code, errors = self.peg("fly")
        self.assertEqual(code, 2)
        self.assertEqual(errors.splitlines()[0], "peg: unknown verb fly")
        self.assertIn("usage:", errors)

    def test_an_unknown_option_is_one_line_and_help_and_code_2(self):
        for verb in main.VERBS:
            if getattr(verb, "passes_arguments", False):
                continue
            needed = ["/dev/null"] if verb.NAME == "flash" else []
            code, errors = self.peg(verb.NAME, *needed, "--no-such-option")
            self.assertEqual(code, 2, verb.NAME)
            self.assertIn("--no-such-option", errors.splitlines()[0])

    def test_every_verb_explains_itself(self):
        for verb in main.VERBS:
            with contextlib.suppress(SystemExit):
                self.assertEqual(self.peg(verb.NAME, "--help")[0], 0)


class TimeBases(unittest.TestCase):
    def test_without_kvm_an_instruction_takes_as_long_as_ever(self):
        said = []
        with unittest.mock.patch.object(timebase, "probe_kvm", lambda: (False, "it crawls")):
            chosen = timebase.choose("kvm", said.append)
        self.assertIn("shift=0,sleep=on", chosen.arguments)
        self.assertIn("it crawls", said[0])
        self.assertEqual(chosen, timebase.choose("tcg", said.append))

    def test_a_counted_clock_has_one_processor(self):
        machine = qemu.Machine(time=timebase.counted(), processors=2)
        with self.assertRaises(PegError):
            qemu.command_line(machine, "/run", "/sockets")

    def test_five_levels_are_offered_only_when_wanted(self):
        def cpu(**fields):
            command = qemu.command_line(qemu.Machine(time=timebase.counted(), **fields), "r", "s")
            return command[command.index("-cpu") + 1]
        self.assertIn("-la57", cpu())
        self.assertNotIn("-la57", cpu(la57=True))


class Flash(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.image = pathlib.Path(folder.name) / "image"
        self.disk = pathlib.Path(folder.name) / "disk"
        self.image.write_bytes(os.urandom(5 << 20))
        self.disk.write_bytes(bytes(6 << 20))

    def test_what_is_no_disk_is_refused(self):
        for device, force in ((self.disk, False), (pathlib.Path("/dev/null"), True),
                              (pathlib.Path("/nonexistent"), True)):
            with self.assertRaises(PegError):
                flash.check(device, force)

    def test_what_is_written_is_read_back(self):
        with contextlib.redirect_stdout(io.StringIO()):
            flash.write(self.image, self.disk)
            flash.verify(self.image, self.disk)
        self.assertEqual(self.disk.stat().st_size, 6 << 20)

    def test_one_wrong_byte_is_found(self):
        with contextlib.redirect_stdout(io.StringIO()):
            flash.write(self.image, self.disk)
        with open(self.disk, "r+b") as file:
            file.seek(4_999_999)
            byte = file.read(1)
            file.seek(4_999_999)
            file.write(bytes([byte[0] ^ 1]))
        with self.assertRaisesRegex(PegError, "4999999"):
            flash.verify(self.image, self.disk)


class Processes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        before = processes.RUNNING
        processes.RUNNING = pathlib.Path(folder.name)
        self.addCleanup(lambda: setattr(processes, "RUNNING", before))

    def test_stop_ends_what_was_started(self):
        process = processes.start(["sleep", "60"], "a sleeper")
        self.assertEqual([record["pid"] for record in processes.running()], [process.pid])
        processes.stop_all()
        self.assertEqual(processes.running(), [])
        self.assertNotEqual(process.wait(5), 0)

    def test_a_later_process_with_the_same_number_is_left_alone(self):
        record = {"pid": os.getpid(), "started": 1, "what": "long gone", "peg": 1}
        (processes.RUNNING / f"{os.getpid()}.json").write_text(json.dumps(record))
        self.assertEqual(processes.stop_all(), [])

    def test_what_peg_started_dies_with_it(self):
        program = ("import sys; sys.path.insert(0, sys.argv[1]); import pathlib, processes, time;"
                   "processes.RUNNING = pathlib.Path(sys.argv[2]);"
                   "print(processes.start(['sleep', '60'], 'x').pid, flush=True); time.sleep(60)")
        here = str(pathlib.Path(__file__).parent)
        parent = subprocess.Popen([sys.executable, "-c", program, here, str(processes.RUNNING)],
                                  stdout=subprocess.PIPE, text=True)
        child = int(parent.stdout.readline())
        self.assertIsNotNone(processes.start_time(child))
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 5
        while processes.start_time(child) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertIsNone(processes.start_time(child))


class Protocol(unittest.TestCase):
    def test_events_between_a_command_and_its_answer_are_kept(self):
        with tempfile.TemporaryDirectory(prefix="peg-") as folder:
            path = f"{folder}/s"
            server = socket.socket(socket.AF_UNIX)
            server.bind(path)
            server.listen()

            def serve():
                connection, _ = server.accept()
                with connection, connection.makefile("rw") as file:
                    for answers in ([{"QMP": {}}], [{"return": {}}],
                                    [{"event": "STOP"}, {"return": {"running": False}}]):
                        if "QMP" not in answers[0]:
                            file.readline()
                        for message in answers:
                            file.write(json.dumps(message) + "\n")
                            file.flush()

            thread = threading.Thread(target=serve)
            thread.start()
            client = qmp.Qmp(path, time.monotonic() + 5)
            self.assertEqual(client.command("query-status"), {"running": False})
            self.assertEqual(client.next_event(1)["event"], "STOP")
            thread.join()
            with self.assertRaises(qmp.QmpClosed):
                client.next_event(1)
            client.close()
            server.close()


if __name__ == "__main__":
    unittest.main()

//! Programs in C and C++, compiled by the compilers of this machine against the headers and the
//! libraries, and run against a real daemon. A compiler or a tool that is absent is named and
//! skipped; gcc is always there, the build needs it.

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Lines, Write as _};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdout, Command, Output, Stdio};
    use std::sync::OnceLock;

    use chariot_npu_sim::{Profile, install};
    use chariot_tests_node::daemon::{Daemon, DaemonOptions, program};
    use chariot_tests_node::wait;
    use tempfile::TempDir;

    const HERE: &str = env!("CARGO_MANIFEST_DIR");

    /// The directory of `libchariot.a` and `libchariot.so`.
    fn libraries() -> &'static Path {
        static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
        DIRECTORY.get_or_init(|| {
            let library = program(&["-p", "chariot-capi", "--lib"], "libchariot.a");
            let directory = library.parent().unwrap();
            let linked = Command::new(Path::new(HERE).join("link.sh"))
                .arg(directory)
                .output()
                .unwrap();
            assert_ok("link.sh", &linked);
            directory.to_owned()
        })
    }

    fn is_there(program: &str) -> bool {
        let found = Command::new(program).arg("--version").output().is_ok();
        if !found {
            println!("skipped: {program} is not on this machine");
        }
        found
    }

    #[track_caller]
    fn assert_ok(what: &str, output: &Output) {
        assert!(
            output.status.success(),
            "{what}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    struct Built {
        _directory: TempDir,
        path: PathBuf,
    }

    #[track_caller]
    fn compile(compiler: &str, source: &str, flags: &[&str]) -> Built {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let standard = if Path::new(source).extension().is_some_and(|c| c == "c") {
            "-std=c11"
        } else {
            "-std=c++17"
        };
        let output = Command::new(compiler)
            .args([standard, "-D_POSIX_C_SOURCE=200809L", "-O1", "-g"])
            .args(["-Wall", "-Wextra", "-Werror", "-pthread", "-I"])
            .arg(Path::new(HERE).join("include"))
            .arg(Path::new(HERE).join(source))
            .args(flags)
            .arg("-o")
            .arg(&path)
            .arg(format!("-L{}", libraries().display()))
            .arg(format!("-Wl,-rpath,{}", libraries().display()))
            .args(["-lchariot", "-ldl", "-lm"])
            .output()
            .unwrap();
        assert_ok(&format!("{compiler} {source}"), &output);
        Built {
            _directory: directory,
            path,
        }
    }

    /// A small one, as the tests of this file run side by side; all of its memory is there, or the
    /// first values would be evicted for want of pages.
    fn daemon() -> Daemon {
        let daemon = Daemon::start_with(&DaemonOptions {
            memory_mib: 128,
            ..DaemonOptions::default()
        });
        let all = 128.0 * 1024.0 * 1024.0;
        wait::until("the arena is populated", || {
            daemon.metrics().total("chariot_populated_bytes") >= all
        });
        daemon
    }

    fn compilers() -> Vec<(&'static str, &'static str)> {
        [("gcc", "g++"), ("clang", "clang++")]
            .into_iter()
            .filter(|(c, cpp)| is_there(c) && is_there(cpp))
            .collect()
    }

    #[test]
    fn examples_compile_and_run() {
        let daemon = daemon();
        for (c, cpp) in compilers() {
            for (compiler, source, said) in [
                (c, "examples/hello.c", "from C\nOk NotFound\n"),
                (cpp, "examples/hello.cpp", "from C++\nNotFound\n"),
            ] {
                let built = compile(compiler, source, &[]);
                let address = daemon.listen().to_string();
                let output = Command::new(&built.path).arg(address).output().unwrap();
                assert_ok(source, &output);
                assert_eq!(String::from_utf8_lossy(&output.stdout), said);
            }
        }
    }

    #[test]
    fn the_static_library_is_enough() {
        let daemon = daemon();
        let archive = libraries().join("libchariot.a");
        let built = compile(
            "gcc",
            "examples/hello.c",
            &[
                "-Wl,--push-state,-Bstatic",
                archive.to_str().unwrap(),
                "-Wl,--pop-state",
            ],
        );
        let output = Command::new(&built.path)
            .arg(daemon.listen().to_string())
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        assert_ok("static", &output);
    }

    #[test]
    fn every_function_works_and_refuses_what_has_no_sense() {
        let daemon = daemon();
        let built = compile("gcc", "tests/programs/calls.c", &[]);
        for place in ["local", "remote"] {
            let output = Command::new(&built.path)
                .arg(daemon.listen().to_string())
                .arg(place)
                .output()
                .unwrap();
            assert_ok(place, &output);
        }
    }

    /// Rather than valgrind, which runs these programs too (`per_call.sh`), only far slower.
    #[test]
    fn calls_are_clean_under_the_address_sanitizer() {
        let daemon = daemon();
        let built = compile(
            "gcc",
            "tests/programs/calls.c",
            &["-fsanitize=address,undefined"],
        );
        let output = Command::new(&built.path)
            .arg(daemon.listen().to_string())
            .arg("local")
            .env("ASAN_OPTIONS", "detect_leaks=1:allocator_may_return_null=1")
            .output()
            .unwrap();
        assert_ok("asan", &output);
    }

    #[test]
    fn a_program_of_the_first_release_compiles_unchanged_and_runs() {
        for (_, cpp) in compilers() {
            let daemon = daemon();
            let built = compile(cpp, "tests/programs/kv_016.cpp", &[]);
            let output = Command::new(&built.path)
                .arg("127.0.0.1")
                .arg(daemon.listen().port().to_string())
                .env("DATASYSTEM_HOST", "127.0.0.1")
                .env("CHARIOT_DEVICE_BACKEND", "ascend")
                .env("ASCEND_RT_LIB_DIR", built.path.parent().unwrap())
                .env("DATASYSTEM_PORT", daemon.listen().port().to_string())
                .output()
                .unwrap();
            assert_ok(cpp, &output);
        }
    }

    #[test]
    fn a_killed_daemon_is_an_error_in_time_and_comes_back() {
        let mut daemon = daemon();
        let built = compile("gcc", "tests/programs/away.c", &[]);
        let mut child = Command::new(&built.path)
            .arg(daemon.listen().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(said.next().map(Result::unwrap).as_deref(), Some("kill"));
        daemon.kill();
        input.write_all(b"\n").unwrap();
        let next = said.next().map(Result::unwrap);
        if next.as_deref() == Some("restart") {
            daemon.restart();
            input.write_all(b"\n").unwrap();
        }
        assert_ok("away", &child.wait_with_output().unwrap());
        assert_eq!(next.as_deref(), Some("restart"));
    }

    /// A card's program in one of its roles; on the simulator when `simulated` names its directory.
    fn card(built: &Built, daemon: &Daemon, role: &str, simulated: Option<&Path>) -> Command {
        let mut command = Command::new(&built.path);
        command
            .arg(daemon.listen().to_string())
            .arg(if simulated.is_some() {
                "ascend"
            } else {
                "host"
            })
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(directory) = simulated {
            command
                .env("ASCEND_RT_LIB_DIR", directory)
                .env("ASCEND_SIM_DIR", directory.join("host"))
                .env("ASCEND_SIM_PRESET", "instant")
                .env("ASCEND_SIM_DEVICES", "2");
        }
        command
    }

    fn simulator() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path(), Profile::Cann91).unwrap();
        directory
    }

    #[test]
    fn objects_of_cards_come_back_on_host_memory_and_on_a_simulated_card() {
        let simulator = simulator();
        for (compiler, simulated) in [("gcc", None), ("clang", Some(simulator.path()))] {
            if !is_there(compiler) {
                continue;
            }
            let daemon = daemon();
            let built = compile(compiler, "tests/programs/cards.c", &[]);
            let output = card(&built, &daemon, "copies", simulated).output().unwrap();
            assert_ok(&format!("copies, {compiler}"), &output);
        }
    }

    #[test]
    fn a_device_program_of_the_first_release_compiles_unchanged_and_runs() {
        for (_, cpp) in compilers() {
            let daemon = daemon();
            let built = compile(cpp, "tests/programs/hetero_016.cpp", &[]);
            let output = Command::new(&built.path)
                .arg("127.0.0.1")
                .arg(daemon.listen().port().to_string())
                .env("CHARIOT_DEVICE_BACKEND", "host")
                .output()
                .unwrap();
            assert_ok(cpp, &output);
        }
    }

    #[test]
    fn copies_of_cards_are_clean_under_the_address_sanitizer() {
        let daemon = daemon();
        let flags = ["-fsanitize=address,undefined"];
        let built = compile("gcc", "tests/programs/cards.c", &flags);
        // Blobs of the program stay allocated until its end; what the library leaks has a name.
        let output = card(&built, &daemon, "copies", None)
            .env("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1")
            .output()
            .unwrap();
        assert_ok("asan", &output);
    }

    #[test]
    fn without_a_library_the_cause_is_named() {
        let (daemon, empty) = (daemon(), tempfile::tempdir().unwrap());
        let built = compile("gcc", "tests/programs/cards.c", &[]);
        let output = card(&built, &daemon, "without", Some(empty.path()))
            .output()
            .unwrap();
        assert_ok("without", &output);
    }

    /// A card's program that is talked to, line by line; killed when the test fails.
    struct Talk {
        child: Child,
        said: Lines<BufReader<ChildStdout>>,
    }

    impl Talk {
        fn start(mut command: Command) -> Self {
            let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines();
            Self { child, said }
        }

        #[track_caller]
        fn hear(&mut self, word: &str) {
            let line = self.said.next().map(Result::unwrap);
            assert_eq!(line.as_deref(), Some(word));
        }

        fn tell(&mut self, word: &str) {
            let mut input = self.child.stdin.as_ref().unwrap();
            input.write_all(format!("{word}\n").as_bytes()).unwrap();
        }
    }

    impl Drop for Talk {
        fn drop(&mut self) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    #[test]
    fn two_processes_hand_objects_from_card_to_card() {
        let (daemon, simulator) = (daemon(), simulator());
        let built = compile("gcc", "tests/programs/cards.c", &[]);
        let start = |role| Talk::start(card(&built, &daemon, role, Some(simulator.path())));
        let mut provider = start("provide");
        provider.hear("offered");
        let mut receiver = start("receive");
        receiver.hear("received");
        provider.tell("received");
        provider.hear("deleted");
        receiver.tell("deleted");
        receiver.hear("end");
        receiver.hear("ok");
        provider.tell("end");
        provider.hear("ok");
    }

    #[track_caller]
    fn cycle(buffers: u32, clients: u32) {
        let daemon = daemon();
        let built = compile("gcc", "tests/programs/cycles.c", &[]);
        let output = Command::new(&built.path)
            .arg(format!("unix:{}", daemon.socket().display()))
            .args([buffers.to_string(), clients.to_string()])
            .output()
            .unwrap();
        assert_ok("cycles", &output);
        println!("{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn cycles_of_buffers_and_clients_leak_nothing() {
        cycle(100_000, 200);
    }

    #[test]
    #[ignore = "long: make test-long"]
    fn cycles_of_100_000_clients_leak_nothing() {
        cycle(100_000, 100_000);
    }

    /// The negative test: what leaks is seen.
    #[test]
    fn a_leak_of_views_is_seen() {
        let daemon = daemon();
        let built = compile("gcc", "tests/programs/cycles.c", &["-DLEAK"]);
        let output = Command::new(&built.path)
            .arg(format!("unix:{}", daemon.socket().display()))
            .args(["8000", "0"])
            .output()
            .unwrap();
        assert!(!output.status.success(), "a leak went unseen");
    }
}

//! A process for each rule, and calls without ceremony.

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::ptr::null_mut;

use chariot_ascend_rt_sys::{AclApi, HcclApi, Libraries, Search, sys};
use chariot_npu_sim::{Profile, install};

/// Calls a function of a table and gives its code.
macro_rules! code {
    ($function:expr $(, $argument:expr)* $(,)?) => {{
        let function = $function;
        // SAFETY: the simulator checks what it is given; pointers here are to locals that outlive
        // the call, or wrong on purpose in ways that the rule under test has to notice.
        unsafe { function($($argument),*) }
    }};
}

/// Calls a function of a table that has to succeed.
macro_rules! ok {
    ($function:expr $(, $argument:expr)* $(,)?) => {{
        let code = code!($function $(, $argument)*);
        assert_eq!(code, 0, "{}", stringify!($function));
    }};
}

/// A test whose body runs alone in a process with these settings.
macro_rules! rule {
    (on $profile:ident, $name:ident, |$sim:ident| $body:block) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            let profile = chariot_npu_sim::Profile::$profile;
            $crate::support::alone_on(profile, test, &[], |$sim: &$crate::support::Sim| $body);
        }
    };
    ($name:ident, [$($variable:ident = $value:expr),*], |$sim:ident| $body:block) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            let settings: &[(&str, &str)] =
                &[$((concat!("ASCEND_SIM_", stringify!($variable)), $value)),*];
            $crate::support::alone(test, settings, |$sim: &$crate::support::Sim| $body);
        }
    };
}

/// The simulator, loaded as the product loads CANN.
pub(crate) struct Sim {
    pub(crate) acl: AclApi,
    pub(crate) hccl: HcclApi,
    libraries: Libraries,
    pub(crate) dir: PathBuf,
    test: String,
}

/// Bytes of a device block or of pinned memory, as numbers that the tests pass on.
pub(crate) type Address = *mut c_void;

const CHILD: &str = "ASIM_TEST_CHILD";
const ROLE: &str = "ASIM_TEST_ROLE";

fn again(test: &str, dir: &Path, role: &str, settings: &[(&str, &str)]) -> Command {
    let (_, name) = test.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1", "-q"]);
    command
        .env(CHILD, dir)
        .env(ROLE, role)
        .env("ASCEND_SIM_DIR", dir.join("host"));
    // Unless a rule says otherwise: no time, no delays.
    command
        .env("ASCEND_SIM_CLOCK", "virtual")
        .env("ASCEND_SIM_PRESET", "instant");
    command.envs(settings.iter().copied());
    command
}

/// Runs `body` in a fresh process: the caller's test is started again, and gets here again.
pub(crate) fn alone(test: &str, settings: &[(&str, &str)], body: impl FnOnce(&Sim)) {
    alone_on(Profile::Cann91, test, settings, body);
}

/// The same on another version.
pub(crate) fn alone_on(
    profile: Profile,
    test: &str,
    settings: &[(&str, &str)],
    body: impl FnOnce(&Sim),
) {
    if let Some(dir) = std::env::var_os(CHILD) {
        body(&Sim::load(PathBuf::from(dir), test));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), profile).unwrap();
    // Its words are kept back: lines about one test each would drown those of the whole run.
    let output = again(test, dir.path(), "", settings).output().unwrap();
    let words =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        output.status.success(),
        "{test} in its own process: {}",
        words.join("\n")
    );
}

impl Sim {
    fn load(dir: PathBuf, test: &str) -> Self {
        let search = Search::only(&dir);
        Self {
            acl: AclApi::load(&search).unwrap(),
            hccl: HcclApi::load(&search).unwrap(),
            libraries: Libraries::open(&search, &["libascendcl.so"]).unwrap(),
            dir,
            test: test.to_owned(),
        }
    }

    /// What this process is to do, in a rule with several; empty in the first.
    pub(crate) fn role() -> String {
        std::env::var(ROLE).unwrap_or_default()
    }

    /// Starts one more process of this rule.
    pub(crate) fn start(&self, role: &str, settings: &[(&str, &str)]) -> Child {
        let mut command = again(&self.test, &self.dir, role, &[]);
        for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("ASCEND_SIM_")) {
            command.env(name, value);
        }
        command.envs(settings.iter().copied()).spawn().unwrap()
    }

    /// Initialises and takes a card.
    pub(crate) fn begin(&self, device: i32) {
        ok!(self.acl.aclInit, std::ptr::null());
        ok!(self.acl.aclrtSetDevice, device);
    }

    pub(crate) fn device_block(&self, len: usize) -> Address {
        let mut at = null_mut();
        ok!(self.acl.aclrtMalloc, &raw mut at, len, 0);
        at
    }

    pub(crate) fn pinned(&self, bytes: &[u8]) -> Address {
        let mut at = null_mut();
        ok!(self.acl.aclrtMallocHost, &raw mut at, bytes.len());
        write(at, bytes);
        at
    }

    pub(crate) fn stream(&self) -> sys::aclrtStream {
        let mut stream = null_mut();
        ok!(self.acl.aclrtCreateStream, &raw mut stream);
        stream
    }

    pub(crate) fn event(&self) -> sys::aclrtEvent {
        let mut event = null_mut();
        ok!(
            self.acl.aclrtCreateEventWithFlag,
            &raw mut event,
            sys::ACL_EVENT_SYNC
        );
        event
    }

    /// An asynchronous copy whose direction the addresses tell.
    pub(crate) fn copy(&self, dst: Address, src: Address, len: usize, stream: Address) -> i32 {
        let kind = sys::ACL_MEMCPY_DEFAULT;
        code!(
            self.acl.aclrtMemcpyAsync,
            dst,
            len,
            src.cast_const(),
            len,
            kind,
            stream
        )
    }

    pub(crate) fn sync(&self, stream: Address) -> i32 {
        code!(self.acl.aclrtSynchronizeStream, stream)
    }

    /// What a device block holds.
    pub(crate) fn read(&self, from: Address, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let to = bytes.as_mut_ptr().cast();
        ok!(
            self.acl.aclrtMemcpy,
            to,
            len,
            from.cast_const(),
            len,
            sys::ACL_MEMCPY_DEVICE_TO_HOST
        );
        bytes
    }

    pub(crate) fn fault(&self, list: &str) {
        let list = CString::new(list).unwrap();
        let at = self.libraries.require("asim_fault").unwrap();
        // SAFETY: the simulator declares this symbol with this type.
        let order: extern "C" fn(*const i8) -> i32 = unsafe { std::mem::transmute(at) };
        assert_eq!(order(list.as_ptr().cast()), 0);
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        let name = CString::new(name).unwrap();
        let at = self.libraries.require("asim_count").unwrap();
        // SAFETY: as above, another type.
        let count: extern "C" fn(*const i8) -> u64 = unsafe { std::mem::transmute(at) };
        count(name.as_ptr().cast())
    }

    pub(crate) fn leaks(&self) -> u64 {
        let at = self.libraries.require("asim_leaks").unwrap();
        // SAFETY: as above.
        let leaks: extern "C" fn() -> u64 = unsafe { std::mem::transmute(at) };
        leaks()
    }

    pub(crate) fn now(&self) -> u64 {
        let at = self.libraries.require("asim_now").unwrap();
        // SAFETY: as above.
        let now: extern "C" fn() -> u64 = unsafe { std::mem::transmute(at) };
        now()
    }
}

/// Writes into host memory of a test.
pub(crate) fn write(to: Address, bytes: &[u8]) {
    // SAFETY: the test made the memory at least as long.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast::<u8>(), bytes.len()) };
}

/// Reads host memory of a test.
pub(crate) fn peek(from: Address, len: usize) -> Vec<u8> {
    // SAFETY: the test made the memory at least as long.
    unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) }.to_vec()
}

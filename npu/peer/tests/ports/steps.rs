//! `kill -9` at every step of a link's life, at either end of it.
//!
//! ```text
//!   sender    serve ─ open_link ─ connect ─ root info ─ invite ─ accepted ─┐
//!   receiver  take ────────────── connect ─────── invitation ─ accept ─────┤
//!             ┌────────────────────────────────────────────────────────────┘
//!   sender    ├ init ─ first byte ─ joined ─ announce ─ post ─ at the head ─ last chunk ─┐
//!   receiver  └ init ─ first byte ─ joined ─ receive ── post ─ at the head ─ done ───────┤
//!                                           both: idle ─ abort ─ destroy ────────────────┘
//! ```
//! The other end gets the object all the same once somebody has it, the key can be offered again, a
//! third process is served meanwhile, and nothing is left behind. Each victim's link to the
//! survivor is a new one: the next one's set-up shows that the survivor's card is free again.

use std::time::{Duration, Instant};

use crate::objects::PATIENCE;
use crate::worker::{Backend, Stage, Worker};

/// 24 chunks of 32 KiB.
const SHAPE: &str = "65536x12";
const STALL: Duration = Duration::from_secs(3);

/// Where a victim dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// At a call or order of its directory.
    Directory(&'static str),
    /// At a call or task of the simulated card: a fault, in which `#` is the card.
    Card(&'static str),
}

use Step::{Card, Directory};

/// A victim that sends, until the receiver has all of the object.
const SENDER: &[Step] = &[
    Directory("serve>"),
    Directory("open_link<"),
    Directory("open_link>"),
    Directory("connect>"),
    Card("kill:HcclGetRootInfo:1"),
    Directory("invite<"),
    Card("kill:HcclSend:1"),
    Card("killpair:#:1"),
    Directory("joined<"),
    Directory("joined>"),
    Directory("announce<"),
    Directory("announce>"),
    Card("kill:HcclSend:2"),
    Card("killpair:#:2"),
    Directory("announce<9"),
    Card("kill:HcclSend:9"),
    Card("killpair:#:9"),
];

/// A victim that receives, until the directory knows that it has all of the object.
const RECEIVER: &[Step] = &[
    Directory("take<"),
    Directory("take>"),
    Directory("connect>"),
    Directory("invitation<"),
    Directory("invitation>"),
    Directory("accept<"),
    Card("kill:HcclRecv:1"),
    Card("killpair:#:1"),
    Directory("joined<"),
    Directory("joined>"),
    Directory("receive>"),
    Card("kill:HcclRecv:2"),
    Card("killpair:#:2"),
    Directory("receive>9"),
    Card("kill:HcclRecv:9"),
    Card("killpair:#:9"),
    Directory("done<"),
    Directory("done>"),
];

/// Between the invitation and the library: the survivor's card may wait there as long as the
/// library does. A victim that sends.
const SENDER_BEGINS: &[Step] = &[
    Directory("invite>"),
    Directory("accepted<"),
    Directory("accepted>"),
    Card("kill:HcclCommInitRootInfoConfig:1"),
];

/// Likewise, a victim that receives.
const RECEIVER_BEGINS: &[Step] = &[
    Directory("accept>"),
    Card("kill:HcclCommInitRootInfoConfig:1"),
];

/// Both, when it closes its port, whose link stands.
const CLOSING: &[Step] = &[
    Card("kill:aclrtStreamAbort:1"),
    Card("kill:HcclCommDestroy:1"),
];

/// How many of the steps a backend has.
fn steps(backend: Backend, steps: &[Step]) -> Vec<Step> {
    let has = |step: &Step| backend == Backend::Simulated || matches!(step, Directory(_));
    steps.iter().copied().filter(has).collect()
}

struct Scene {
    stage: Stage,
    /// Has every object in the end.
    source: Worker,
    /// The other end of the victims' links.
    survivor: Worker,
    round: u32,
}

impl Scene {
    /// `settings` of the simulator, of every process.
    fn new(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let settings = [&[("PRESET", "instant"), ("STRICT", "1")], settings].concat();
        let stage = Stage::new(backend, &settings);
        let source = stage.start_with(0, STALL, &[]);
        let survivor = stage.start_with(1, STALL, &[]);
        Self {
            stage,
            source,
            survivor,
            round: 0,
        }
    }

    /// A victim and the key of its round. Cards of the dead are used again.
    fn victim(&mut self, step: Step) -> (Worker, String) {
        self.round += 1;
        println!("round {}: {step:?}", self.round);
        let card = 2 + self.round % 3;
        let victim = match step {
            Directory(step) => self.stage.start_doomed(card, STALL, step, &[]),
            Card(fault) => {
                let fault = fault.replace('#', &card.to_string());
                self.stage.start_with(card, STALL, &[("FAULTS", &fault)])
            },
        };
        (victim, format!("k{}", self.round))
    }

    /// The survivor's link to the source stands, and so does everything else.
    fn check_others(&mut self) {
        let key = format!("other{}", self.round);
        assert_eq!(self.source.ask(&format!("put {key} 5000x2 7")), "ok");
        let got = self.survivor.ask(&format!("get {key} 5000x2 7 40000"));
        assert_eq!(got, "ok");
        assert_eq!(self.source.ask(&format!("delete {key}")), "Ok(true)");
        self.survivor.ask("clear");
    }

    fn finish(self) {
        self.source.finish();
        self.survivor.finish();
    }
}

/// Offers an object whose last provider has just died: the directory knows of that in time.
fn offer_again(source: &mut Worker, key: &str, seed: u32) {
    let begun = Instant::now();
    loop {
        match source.ask(&format!("put {key} {SHAPE} {seed}")).as_str() {
            "ok" => return,
            "exists" => assert!(begun.elapsed() < PATIENCE, "the dead are not forgotten"),
            other => panic!("{other}"),
        }
    }
}

/// The victim sends and dies; somebody else offers the object then.
fn kill_sender(scene: &mut Scene, step: Step) {
    let (mut victim, key) = scene.victim(step);
    assert_eq!(victim.ask(&format!("put {key} {SHAPE} 3")), "ok");
    scene.survivor.order(&format!("get {key} {SHAPE} 3 40000"));
    victim.died();
    offer_again(&mut scene.source, &key, 3);
    assert_eq!(scene.survivor.answer(), "ok", "{step:?}");
    scene.check_others();
}

/// The victim receives and dies; the sender serves another one then.
fn kill_receiver(scene: &mut Scene, step: Step) {
    let (mut victim, key) = scene.victim(step);
    let put = scene.survivor.ask(&format!("put {key} {SHAPE} 4"));
    assert_eq!(put, "ok");
    victim.order(&format!("get {key} {SHAPE} 4 40000"));
    victim.died();
    let got = scene.source.ask(&format!("get {key} {SHAPE} 4 40000"));
    assert_eq!(got, "ok", "{step:?}");
    // Nothing is being sent from its memory for ever.
    assert_eq!(scene.survivor.ask(&format!("forget {key}")), "Ok(true)");
    scene.check_others();
}

fn senders(backend: Backend) {
    let mut scene = Scene::new(backend, &[]);
    for step in steps(backend, SENDER) {
        kill_sender(&mut scene, step);
    }
    for step in steps(backend, CLOSING) {
        let (mut victim, key) = scene.victim(step);
        assert_eq!(victim.ask(&format!("put {key} {SHAPE} 3")), "ok");
        let got = scene.survivor.ask(&format!("get {key} {SHAPE} 3 40000"));
        assert_eq!(got, "ok");
        victim.order("quit");
        victim.died();
        let got = scene.source.ask(&format!("get {key} {SHAPE} 3 40000"));
        assert_eq!(got, "ok", "{step:?}");
        scene.check_others();
    }
    scene.finish();
}

fn receivers(backend: Backend) {
    let mut scene = Scene::new(backend, &[]);
    for step in steps(backend, RECEIVER) {
        kill_receiver(&mut scene, step);
    }
    for step in steps(backend, CLOSING) {
        let (mut victim, key) = scene.victim(step);
        let put = scene.survivor.ask(&format!("put {key} {SHAPE} 4"));
        assert_eq!(put, "ok");
        assert_eq!(victim.ask(&format!("get {key} {SHAPE} 4 40000")), "ok");
        victim.order("quit");
        victim.died();
        assert_eq!(scene.survivor.ask(&format!("forget {key}")), "Ok(true)");
        scene.check_others();
    }
    scene.finish();
}

fn begins(backend: Backend) {
    let mut scene = Scene::new(backend, &[("CONNECT_TIMEOUT_MS", "500")]);
    for step in steps(backend, SENDER_BEGINS) {
        kill_sender(&mut scene, step);
    }
    for step in steps(backend, RECEIVER_BEGINS) {
        kill_receiver(&mut scene, step);
    }
    scene.finish();
}

#[test]
fn a_sender_killed_at_every_step_is_replaced() {
    senders(Backend::Simulated);
}

#[test]
fn ends_killed_at_every_step_are_replaced_on_the_host() {
    senders(Backend::Host);
    receivers(Backend::Host);
    begins(Backend::Host);
}

#[test]
fn a_receiver_killed_at_every_step_harms_nobody() {
    receivers(Backend::Simulated);
}

/// Nobody can call the survivor's card back from the library: it has its turn again when the
/// library gives up, which the next round's link shows.
#[test]
fn an_end_killed_between_its_word_and_the_library_costs_the_librarys_wait() {
    begins(Backend::Simulated);
}

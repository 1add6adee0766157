//! Ties `wire/SHARED-MEMORY.md` to the code: every step, every word's place and every test that the
//! page names is looked up.

mod tests {
    use crate::layout::{life, ro, rw};
    use crate::sync::Step;

    const PAGE: &str = include_str!("../../SHARED-MEMORY.md");
    const TESTS: &[&str] = &[
        include_str!("fds.rs"),
        include_str!("fork/tests.rs"),
        include_str!("life/tests.rs"),
        include_str!("map/tests.rs"),
        include_str!("model/bell.rs"),
        include_str!("model/pins.rs"),
        include_str!("model/rings.rs"),
        include_str!("notes/tests.rs"),
        include_str!("pins/tests.rs"),
        include_str!("ring/tests.rs"),
        include_str!("session/tests.rs"),
    ];

    /// Words between back quotes that look like the name of a test: four parts or more.
    fn tests_named(page: &str) -> Vec<&str> {
        let quoted = page.split('`').skip(1).step_by(2);
        quoted
            .filter(|word| word.split('_').count() >= 4 && !word.contains(' '))
            .collect()
    }

    fn is_test(name: &str) -> bool {
        let definition = format!("fn {name}()");
        TESTS.iter().any(|source| source.contains(&definition))
    }

    #[test]
    fn page_names_every_step() {
        for step in Step::ALL {
            assert!(
                PAGE.contains(&format!("{step:?}")),
                "{step:?} is not on the page"
            );
        }
    }

    #[test]
    fn page_names_only_tests_that_exist() {
        let named = tests_named(PAGE);
        assert!(
            named.len() > 30,
            "the page names its tests: {}",
            named.len()
        );
        for name in named {
            assert!(is_test(name), "{name} is on the page and nowhere else");
        }
        assert!(!is_test("a_test_that_nobody_ever_wrote"));
    }

    #[test]
    fn page_places_every_word() {
        let headers = [
            ("MAGIC u64 \"CHRTSRW1\"", rw::MAGIC),
            ("CLIENT_FLAGS", rw::CLIENT_FLAGS),
            ("WAITING", rw::WAITING),
            ("SESSION_ID", ro::SESSION_ID),
            ("EXPELLED", ro::EXPELLED),
            ("DOORBELL", ro::DOORBELL),
        ];
        for (name, offset) in headers {
            let expected = format!("0x{offset:02x}  {name}");
            assert!(PAGE.contains(&expected), "{expected}");
        }
        let areas = [
            ("SQ_TAIL", 5, rw::SQ_TAIL),
            ("CQ_HEAD", 5, rw::CQ_HEAD),
            ("PIN_HIGH_WATER", 5, rw::PIN_HIGH_WATER),
            ("NOTE_TAIL", 5, rw::NOTE_TAIL),
            ("SUBMISSIONS", 5, rw::SUBMISSIONS),
            ("NOTES", 5, rw::NOTES),
            ("PINS", 5, rw::PINS),
            ("BYTES", 5, rw::BYTES),
            ("SQ_HEAD", 4, ro::SQ_HEAD),
            ("CQ_TAIL", 4, ro::CQ_TAIL),
            ("SLEEPING", 4, ro::SLEEPING),
            ("NOTE_HEAD", 4, ro::NOTE_HEAD),
            ("COMPLETIONS", 4, ro::COMPLETIONS),
        ];
        for (name, digits, offset) in areas {
            let place = format!("  0x{offset:0digits$x}");
            let line = PAGE
                .lines()
                .find(|line| line.starts_with(&place) && line.contains(name));
            assert!(line.is_some(), "{name} at {place}");
        }
        let strides = format!("0x{:x} + s × 0x{:x}", crate::layout::rw_area(0), rw::STRIDE);
        assert!(PAGE.contains(&strides), "{strides}");
        let strides = format!("0x{:x} + s × 0x{:x}", crate::layout::ro_area(0), ro::STRIDE);
        assert!(PAGE.contains(&strides), "{strides}");
        let word = format!("0x{:02x} WORD u32", life::WORD);
        assert!(PAGE.contains(&word), "{word}");
    }
}

//! Each rule fails on what it forbids and passes what comes close.

use super::*;

fn rules_broken(path: &str, text: &str) -> Vec<&'static str> {
    let files = [File { path: path.into(), text: text.into() }];
    check(&files).into_iter().map(|finding| finding.rule).collect()
}

/// A file that says what it is for.
fn rust(path: &str, code: &str) -> Vec<&'static str> {
    rules_broken(path, &format!("//! What it is for.\n\n{code}\n"))
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_file_says_first_what_it_is_for() {
    assert_eq!(rules_broken("registry/src/fold.rs", "use std::fmt;\n"), ["first-line"]);
    assert_eq!(rust("registry/src/fold.rs", "use std::fmt;"), NOTHING);
}

#[test]
fn a_file_is_at_most_500_lines_long() {
    assert_eq!(rust("a/src/b.rs", &"const A: u8 = 1;\n".repeat(500)), ["file-length"]);
    assert_eq!(rust("a/src/b.rs", &"const A: u8 = 1;\n".repeat(497)), NOTHING);
}

#[test]
fn a_function_is_at_most_80_lines_long() {
    let function = |lines: usize| {
        format!("impl A {{\n    pub(crate) async fn long(&self) {{\n{}    }}\n}}", "        a();\n".repeat(lines))
    };
    assert_eq!(rust("a/src/b.rs", &function(79)), ["function-length"]);
    assert_eq!(rust("a/src/b.rs", &function(78)), NOTHING);
    let declared = format!("trait A {{ fn a(&self) -> [u8; 2];\n{} }}", "const A: u8 = 1;\n".repeat(90));
    assert_eq!(rust("a/src/b.rs", &declared), NOTHING);
}

#[test]
fn files_and_types_have_names_that_say_something() {
    assert_eq!(rust("a/src/core/mod.rs", ""), ["mod-rs"]);
    assert_eq!(rust("a/src/utils.rs", ""), ["vague-name"]);
    assert_eq!(rust("a/src/helpers/b.rs", ""), ["vague-name"]);
    assert_eq!(rust("a/src/lease_manager.rs", ""), ["vague-name"]);
    assert_eq!(rust("a/src/lease.rs", "pub(crate) struct LeaseManager<T>(T);"), ["vague-name"]);
    assert_eq!(rust("a/src/lease.rs", "fn a(it: &other::ConnectionManager) {}"), NOTHING);
}

#[test]
fn subject_text_stands_in_one_file() {
    for code in [
        "const A: &str = \"muster.default.change.orders\";",
        "fn a() { format!(\"muster.{namespace}.event\"); }",
        "fn a() { format!(\"event.{kind}.orders\"); }",
        "const A: &str = \"change.>\";",
        "const A: &str = r#\"publish: \"muster.*.event\" \"#;",
    ] {
        assert_eq!(rust("registry/src/publish.rs", code), ["subject"], "{code}");
        assert_eq!(rust("schemas/src/subject.rs", code), NOTHING);
        assert_eq!(rust("schemas/tests/subjects.rs", code), NOTHING);
        assert_eq!(rust("registry/src/publish.rs", &format!("#[cfg(test)]\nmod tests {{\n{code}\n}}")), NOTHING);
    }
    for code in [
        "const A: &str = \"muster.toml\";",
        "const RESERVED: &str = \"muster.\";",
        "const A: &str = \"/etc/muster.d/muster.service\";",
        "const A: &str = \"a change. {it}\";",
        "fn a() { tracing::info!(event.kind = 1, \"event.kind\"); }",
        "// muster.default.change.orders\nconst A: u8 = 1;",
    ] {
        assert_eq!(rust("registry/src/publish.rs", code), NOTHING, "{code}");
    }
}

#[test]
fn a_core_knows_no_clock_no_runtime_and_no_broker() {
    for code in [
        "use tokio::sync::watch;",
        "use async_nats::Client;",
        "fn a() { let now = Instant::now(); }",
        "fn a() { let now = chrono::Utc::now(); }",
        "fn a(since: SystemTime) {}",
        "fn a() { rand::rng(); }",
    ] {
        assert_eq!(rust("registry/src/core/fold.rs", code), ["pure-core"], "{code}");
        assert_eq!(rust("registry/src/log.rs", code), NOTHING);
        assert_eq!(rust("registry/src/core/fold/tests.rs", code), NOTHING);
    }
    assert_eq!(rust("registry/src/core/fold.rs", "// No tokio here.\nfn a(now_ms: u64) {}"), NOTHING);
}

#[test]
fn a_test_waits_for_a_condition() {
    let code = "async fn a() { tokio::time::sleep(SOON).await; }";
    assert_eq!(rust("tests/scenarios/broker.rs", code), ["sleep"]);
    assert_eq!(rust("registry/tests/queries.rs", code), ["sleep"]);
    assert_eq!(rust("agent/src/check/tests.rs", code), ["sleep"]);
    assert_eq!(rust("agent/src/check.rs", &format!("#[cfg(test)]\nmod tests {{\n{code}\n}}")), ["sleep"]);
    assert_eq!(rust("agent/src/check.rs", code), NOTHING);
    assert_eq!(rust("tests/scenarios/broker.rs", "fn a() { no_sleep(); sleep_until(end); }"), NOTHING);
}

#[test]
fn an_exception_has_its_reason_beside_it() {
    assert_eq!(rust("a/src/b.rs", "#[allow(dead_code)]\nfn a() {}"), ["reason"]);
    assert_eq!(rust("a/src/b.rs", "#[ignore]\nfn a() {}"), ["reason"]);
    assert_eq!(rust("a/src/b.rs", "#[allow(dead_code, reason = \"kept for the wire\")]\nfn a() {}"), NOTHING);
    assert_eq!(
        rust("a/src/b.rs", "#[allow(\n    dead_code,\n    reason = \"kept for the wire\"\n)]\nfn a() {}"),
        NOTHING
    );
    assert_eq!(rust("a/src/b.rs", "#[ignore = \"needs root\"]\nfn a() {}"), NOTHING);
    assert_eq!(rust("a/src/b.rs", "// Kept for the wire.\n#[allow(dead_code)]\nfn a() {}"), NOTHING);
}

#[test]
fn nothing_is_left_unfinished() {
    assert_eq!(rust("a/src/b.rs", "fn a() { todo!() }"), ["unfinished"]);
    assert_eq!(rust("a/src/b.rs", "fn a() { unimplemented!(\"later\") }"), ["unfinished"]);
    assert_eq!(rust("a/src/b.rs", "// FIXME: later\nfn a() {}"), ["unfinished"]);
    assert_eq!(rust("a/src/b.rs", "/// XXX\nfn a() {}"), ["unfinished"]);
    assert_eq!(rust("a/src/b.rs", "fn a() { b(\"todo! FIXME\") }"), NOTHING);
}

#[test]
fn lines_end_where_their_text_ends_and_files_with_a_line_end() {
    assert_eq!(rules_broken("README.md", "text \n"), ["trailing-space"]);
    assert_eq!(rules_broken("README.md", "text"), ["final-newline"]);
    assert_eq!(rules_broken("README.md", "text\n"), NOTHING);
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    assert_eq!(rules_broken("docs/a.md", "[it](no-such-page.md)\n"), ["link"]);
    assert_eq!(rules_broken("docs/a.md", "[it](../xtask/src/tidy.rs)\n"), NOTHING);
    assert_eq!(rules_broken("docs/a.md", "# The first part\n[it](#the-second-part)\n"), ["link"]);
    assert_eq!(rules_broken("docs/a.md", "# The first part\n[it](#the-first-part)\n"), NOTHING);
    assert_eq!(
        rules_broken("docs/a.md", "[it](https://nats.io/none)\n```\n[it](none.md)\n```\n`[it](none.md)`\n"),
        NOTHING
    );
}

#[test]
fn words_that_say_nothing_are_told() {
    assert_eq!(rules_broken("README.md", "It is blazingly fast.\n"), ["word"]);
    assert_eq!(rust("a/src/b.rs", "// Simply add one.\nfn a() {}"), ["word"]);
    assert_eq!(rust("a/src/b.rs", "fn simply() { a(\"simply\") }"), NOTHING);
}

#[test]
fn places_and_numbers_that_only_some_know_are_told() {
    assert_eq!(rules_broken("README.md", "See /home/somebody/notes.\n"), ["place"]);
    assert_eq!(rules_broken("README.md", "See https://example.org/home/ and ~/work/notes.\n"), NOTHING);
    assert_eq!(rules_broken("README.md", "As issue 7 asks.\n"), ["ticket"]);
    assert_eq!(rules_broken("README.md", "Open an issue, 7 days a week.\n"), NOTHING);
}

#[test]
fn the_line_of_a_finding_is_the_line_of_the_file() {
    let text = "//! What it is for.\n\nfn a() {\n    todo!()\n}\n";
    let findings = check(&[File { path: "a/src/b.rs".into(), text: text.into() }]);
    assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [4]);
}

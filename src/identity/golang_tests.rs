//! What Go executables say of themselves, asked of real ones.

use std::process::Command;

use proptest::prelude::*;

use super::*;

const PROGRAM: &str = r#"package main

func main() { println("hello") }
"#;

/// With C and its own thread-local variable.
const WITH_C: &str = r#"package main

// static __thread long first = 3, second;
// static long sum() { return first + second++; }
import "C"

func main() { println(C.sum()) }
"#;

fn built(source: &str, arguments: &[&str], cgo: bool) -> Option<GoroutineLayout> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.go"), source).unwrap();
    let output = Command::new("go")
        .current_dir(folder.path())
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .args(["build", "-o", "program"])
        .args(arguments)
        .arg("main.go")
        .output()
        .expect("Go is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    layout(&folder.path().join("program"))
}

#[test]
fn a_go_program_says_where_its_goroutines_are_also_when_stripped() {
    let expected = Some(GoroutineLayout { g: -8, goid: 152 });
    assert_eq!(built(PROGRAM, &[], false), expected);
    assert_eq!(built(PROGRAM, &["-ldflags=-s -w"], false), expected);
}

#[test]
fn a_program_with_thread_locals_of_c_is_told_by_its_symbols_only() {
    let found = built(WITH_C, &[], true).unwrap();
    assert_eq!(found.goid, 152);
    assert!(found.g <= -8 && found.g >= -64, "{found:?}");
    assert_eq!(built(WITH_C, &["-ldflags=-s -w"], true), None);
}

#[test]
fn another_program_is_none_of_go() {
    assert_eq!(layout(&std::env::current_exe().unwrap()), None);
    assert_eq!(layout(Path::new("/etc/passwd")), None);
    assert_eq!(layout(Path::new("/nonexistent")), None);
}

#[test]
fn each_version_has_the_place_of_its_own_source() {
    let said = |version: &str| {
        let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
        info.resize(32, 0);
        info.push(u8::try_from(version.len()).unwrap());
        info.extend_from_slice(version.as_bytes());
        minor_version(&info).and_then(goid)
    };
    for (version, expected) in [
        ("go1.18", Some(152)),
        ("go1.22.12", Some(152)),
        ("go1.23rc1", Some(160)),
        ("go1.24.3 X:nocoverageredesign", Some(160)),
        ("go1.25.0", Some(152)),
        ("go1.26.8", Some(152)),
        ("go1.27.0", None),
        ("go2.0", None),
        ("devel go1.27-abcdef", None),
    ] {
        assert_eq!(said(version), expected, "{version}");
    }
    let pointers = [&b"\xff Go buildinf:\x08\x00"[..], &[0; 16]].concat();
    assert_eq!(minor_version(&pointers).and_then(goid), Some(152));
}

proptest! {
    #[test]
    fn any_bytes_after_an_elf_header_are_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 64..2048)) {
        bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        bytes[60..62].copy_from_slice(&3u16.to_le_bytes());
        prop_assert_eq!(read(bytes.as_slice()), None);
    }

    #[test]
    fn any_build_info_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let info = [&b"\xff Go buildinf:"[..], &bytes].concat();
        prop_assert!(minor_version(&info).is_none_or(|minor| minor < 1 << 31));
    }
}

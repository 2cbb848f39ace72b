//! Every family of control group paths, from `testdata/cgroup/`: expected values above `---`, the text below.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use spandrel_k8s_meta::cgroup::{
    Kind, Placement, PodRef, controller_path, parse, parse_path, unified_path,
};

fn describe(placement: &Placement) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let kind = match placement.kind {
        Kind::Container => "container",
        Kind::Pod => "pod",
        Kind::Monitor => "monitor",
        Kind::Host => "host",
        Kind::Root => "root",
    };
    found.insert("kind".into(), kind.into());
    if let Some(container) = &placement.container {
        found.insert("container".into(), container.id.clone());
        if let Some(runtime) = container.runtime {
            found.insert("runtime".into(), runtime.name().into());
        }
    }
    match &placement.pod {
        Some(PodRef::Uid(uid)) => found.insert("pod_uid".into(), uid.clone()),
        Some(PodRef::ConfigHash(hash)) => found.insert("config_hash".into(), hash.clone()),
        None => None,
    };
    if let Some(unit) = &placement.unit {
        found.insert("unit".into(), unit.clone());
    }
    found
}

#[test]
fn every_family_of_paths_is_read_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cgroup");
    let mut cases = 0;
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, cgroup) = text.split_once("---\n").expect("a line ---");
        let expected: BTreeMap<String, String> = head
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(" = ").expect("key = value"))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let found = describe(&parse(cgroup));
        if found != expected {
            wrong.push(format!("{}: {found:#?} for {expected:#?}", file.display()));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 30, "only {cases} fixtures were found");
}

#[test]
fn the_unified_path_is_the_line_without_controllers() {
    let hybrid = "12:pids:/a\n1:name=systemd:/b\n0::/c:d\n";
    assert_eq!(unified_path(hybrid), Some("/c:d"));
    assert_eq!(unified_path("1:name=systemd:/b\n"), None);
}

#[test]
fn a_controllers_path_is_that_of_the_line_that_names_it() {
    let text = "4:cpu,cpuacct:/a:b\n3:memory:/c\n0::/d\n";
    assert_eq!(controller_path(text, "cpuacct"), Some("/a:b"));
    assert_eq!(controller_path(text, "memory"), Some("/c"));
    assert_eq!(controller_path(text, "pids"), None);
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{64}",
        "(cri-containerd|crio|crio-conmon|docker|libpod|x)-[0-9a-f]{63,65}(\\.scope)?",
        "(kubelet-)?kubepods(-burstable)?-pod[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}\\.slice(:cri-containerd:[0-9a-f]{64})?",
        "pod[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "pod[0-9a-f]{32}",
        "_?[a-z@\\\\]{0,6}\\.(service|scope|slice)",
        "lxc(\\.payload\\.|\\.monitor\\.)?[a-zé]{0,3}",
        "\\.\\.|\\.|:|docker|\\PC{0,8}",
    ]
}

fn assert_only_from(text: &str, placement: &Placement) {
    if let Some(container) = &placement.container {
        assert!(text.contains(&container.id), "{placement:?}");
    }
    if let Some(pod) = &placement.pod {
        assert!(text.replace('_', "-").contains(pod.as_str()));
    }
    if let Some(unit) = &placement.unit {
        assert!(text.contains(unit.as_str()), "{placement:?}");
    }
    assert_eq!(
        placement.container.is_some(),
        matches!(placement.kind, Kind::Container)
    );
}

proptest! {
    #[test]
    fn any_text_is_read_without_inventing_ids(text in "\\PC*") {
        assert_only_from(&text, &parse(&text));
        assert_only_from(&text, &parse_path(&text));
    }

    #[test]
    fn paths_of_plausible_names_are_read_without_inventing_ids(
        lines in prop::collection::vec(("0:|[0-9]:[a-z=]{0,4}", prop::collection::vec(names(), 0..7)), 0..4)
    ) {
        let text: String = lines
            .iter()
            .map(|(head, path)| format!("{head}:/{}\n", path.join("/")))
            .collect();
        assert_only_from(&text, &parse(&text));
    }
}

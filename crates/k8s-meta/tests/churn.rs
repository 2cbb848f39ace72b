//! Pods are made, restarted, deleted and made again under the same names while news of them come late, twice, in
//! another order and by lists of an older state. The store may not know; what it says must be what was.
#![allow(clippy::unwrap_used)]

use proptest::prelude::{Strategy, any, prop, proptest};
use spandrel_k8s_meta::cgroup::{Container, Kind, Placement, PodRef};
use spandrel_k8s_meta::pod::{
    ContainerSpec, ContainerState, ContainerStatus, Pod, Running, Terminated,
};
use spandrel_k8s_meta::store::{Lookup, Settings, Store};
use spandrel_model::{UnixTime, Value};

const SECOND: u64 = 1_000_000_000;
const EPOCH: u64 = 1_763_892_000;
const NAMES: usize = 4;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A pod of this name is made; the one before is gone.
    Make(usize),
    Restart(usize),
    ReplaceImage(usize),
    Delete(usize),
    /// News of a state arrive: which of those that were ever published.
    Tell(usize),
    /// A deletion arrives.
    TellDeleted(usize),
    /// A list of the state that is `0` publications old; whether it comes to its end.
    List(usize, bool),
    Pass(u64),
    Expire,
    /// Some container that ever ran sent something at some time of its life, and is asked for now.
    Ask(usize, u64, bool),
}

/// The truth about one container.
#[derive(Clone, Debug)]
struct Life {
    id: String,
    uid: String,
    name: String,
    image: String,
    restarts: i64,
    started: u64,
    ended: Option<u64>,
}

#[derive(Default)]
struct World {
    now: u64,
    version: u64,
    made: u64,
    lives: Vec<Life>,
    /// The index of the present life, by name.
    present: [Option<usize>; NAMES],
    wanted_image: [u64; NAMES],
    /// All states of pods that the API ever had, with what existed then.
    published: Vec<Pod>,
    snapshots: Vec<Vec<Pod>>,
    deleted: Vec<String>,
    current: [Option<Pod>; NAMES],
}

impl World {
    fn make(&mut self, name: usize) {
        self.delete(name);
        self.made += 1;
        self.wanted_image[name] = self.made;
        let uid = format!("{:08x}-0000-4000-8000-000000000000", self.made);
        self.start(name, uid, 0, None);
    }

    fn start(&mut self, name: usize, uid: String, restarts: i64, before: Option<usize>) {
        let life = Life {
            id: format!("{:064x}", self.lives.len() + 1),
            uid,
            name: format!("db-{name}"),
            image: format!("example/db-{}", self.wanted_image[name]),
            restarts,
            started: self.now,
            ended: None,
        };
        self.lives.push(life);
        self.present[name] = Some(self.lives.len() - 1);
        self.publish(name, before);
    }

    fn restart(&mut self, name: usize) {
        if let Some(index) = self.present[name] {
            self.lives[index].ended = Some(self.now);
            let Life { uid, restarts, .. } = self.lives[index].clone();
            self.start(name, uid, restarts + 1, Some(index));
        }
    }

    /// The pod asks for another image; the container still runs the one before.
    fn replace_image(&mut self, name: usize) {
        if let Some(index) = self.present[name] {
            self.made += 1;
            self.wanted_image[name] = self.made;
            let _ = index;
            self.publish(name, None);
        }
    }

    fn delete(&mut self, name: usize) {
        if let Some(index) = self.present[name].take() {
            self.lives[index].ended = Some(self.now);
            self.deleted.push(self.lives[index].uid.clone());
            self.current[name] = None;
            self.snapshots
                .push(self.current.iter().flatten().cloned().collect());
        }
    }

    fn publish(&mut self, name: usize, before: Option<usize>) {
        let life = &self.lives[self.present[name].unwrap()];
        self.version += 1;
        let mut pod = Pod::default();
        pod.metadata.name.clone_from(&life.name);
        pod.metadata.namespace = "shop".into();
        pod.metadata.uid.clone_from(&life.uid);
        pod.metadata.resource_version = self.version.to_string();
        let image = format!("example/db-{}", self.wanted_image[name]);
        pod.spec.containers = vec![ContainerSpec {
            name: "app".into(),
            image,
            ..ContainerSpec::default()
        }];
        let before = before.map(|index| &self.lives[index]);
        pod.status.container_statuses = vec![ContainerStatus {
            name: "app".into(),
            container_id: format!("containerd://{}", life.id),
            image: life.image.clone(),
            image_id: format!("{}@sha256:{}", life.image, "0".repeat(64)),
            restart_count: u32::try_from(life.restarts).unwrap(),
            state: ContainerState {
                running: Some(Running {
                    started_at: Some(stamp(life.started)),
                }),
                terminated: None,
            },
            last_state: ContainerState {
                running: None,
                terminated: before.map(|it| Terminated {
                    reason: None,
                    started_at: Some(stamp(it.started)),
                    finished_at: it.ended.map(stamp),
                    container_id: format!("containerd://{}", it.id),
                }),
            },
        }];
        self.published.push(pod.clone());
        self.current[name] = Some(pod);
        self.snapshots
            .push(self.current.iter().flatten().cloned().collect());
    }
}

/// All of it is within one day.
fn stamp(seconds: u64) -> String {
    let of_day = 10 * 3600 + seconds;
    format!(
        "2025-11-23T{:02}:{:02}:{:02}Z",
        of_day / 3600,
        of_day % 3600 / 60,
        of_day % 60
    )
}

fn time(seconds: u64) -> UnixTime {
    UnixTime((EPOCH + seconds) * SECOND)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..NAMES;
    let step = prop_oneof_steps(name);
    prop::collection::vec(step, 1..120)
}

fn prop_oneof_steps(name: std::ops::Range<usize>) -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        3 => name.clone().prop_map(Step::Make),
        4 => name.clone().prop_map(Step::Restart),
        1 => name.clone().prop_map(Step::ReplaceImage),
        2 => name.prop_map(Step::Delete),
        12 => any::<usize>().prop_map(Step::Tell),
        3 => any::<usize>().prop_map(Step::TellDeleted),
        2 => (0..6_usize, any::<bool>()).prop_map(|(age, whole)| Step::List(age, whole)),
        5 => (1..90_u64).prop_map(Step::Pass),
        2 => proptest::strategy::Just(Step::Expire),
        15 => (any::<usize>(), 0..400_u64, any::<bool>()).prop_map(|(life, at, pod)| Step::Ask(life, at, pod)),
    ]
}

fn text(found: &Lookup, key: &str) -> Option<String> {
    let attributes = found.identity()?.attributes();
    attributes
        .iter()
        .find(|it| it.key == key)
        .map(|it| match &it.value {
            Value::Str(text) => text.to_string(),
            Value::I64(number) => number.to_string(),
            other => format!("{other:?}"),
        })
}

/// Whatever the answer says of the container must be true of that life.
fn check(found: &Lookup, life: &Life) {
    let Some(identity) = found.identity() else {
        return;
    };
    assert_eq!(identity.pod_uid(), life.uid, "{life:?}");
    assert_eq!(identity.pod_name(), life.name, "{life:?}");
    for (key, truth) in [
        ("container.id", life.id.clone()),
        ("container.image.name", life.image.clone()),
        ("k8s.container.restart_count", life.restarts.to_string()),
        ("service.instance.id", format!("shop.{}.app", life.name)),
    ] {
        let told = text(found, key);
        assert!(
            told.is_none() || told.as_ref() == Some(&truth),
            "{key} is {told:?}: {life:?}"
        );
    }
}

fn run(steps: &[Step]) -> usize {
    let mut world = World::default();
    let mut store = Store::new(Settings::default());
    let mut found = 0;
    for step in steps {
        let now = time(world.now);
        match step {
            Step::Make(name) => world.make(*name),
            Step::Restart(name) => world.restart(*name),
            Step::ReplaceImage(name) => world.replace_image(*name),
            Step::Delete(name) => world.delete(*name),
            Step::Tell(which) => {
                // News of late are more likely than those of long ago.
                let count = world.published.len();
                if let Some(pod) = count
                    .checked_sub(1 + which % 5)
                    .and_then(|at| world.published.get(at))
                {
                    let _ = store.apply(pod, now);
                }
            }
            Step::TellDeleted(which) => {
                if let Some(uid) = world.deleted.get(which % world.deleted.len().max(1)) {
                    store.delete(uid, now);
                }
            }
            Step::List(age, whole) => {
                store.begin_list();
                let at = world.snapshots.len().checked_sub(1 + age);
                for pod in at
                    .and_then(|at| world.snapshots.get(at))
                    .into_iter()
                    .flatten()
                {
                    let _ = store.apply(pod, now);
                }
                if *whole {
                    store.end_list(now);
                }
            }
            Step::Pass(seconds) => world.now += seconds,
            Step::Expire => store.expire(now),
            Step::Ask(which, after, by_path) => {
                let Some(life) = world.lives.get(which % world.lives.len().max(1)) else {
                    continue;
                };
                let last = life.ended.unwrap_or(world.now);
                let at = time((life.started + after).min(last));
                let answer = if *by_path {
                    store.locate(&placement(life), at)
                } else {
                    store.container(&life.id, at)
                };
                check(&answer, life);
                found += usize::from(matches!(answer, Lookup::Found(_)));
            }
        }
    }
    // When all is told, all that lives is known.
    store.begin_list();
    for pod in world.current.iter().flatten() {
        let _ = store.apply(pod, time(world.now));
    }
    store.end_list(time(world.now));
    for life in world
        .present
        .iter()
        .flatten()
        .filter_map(|index| world.lives.get(*index))
    {
        let answer = store.container(&life.id, time(world.now));
        assert!(
            matches!(answer, Lookup::Found(_)),
            "{} of {life:?}",
            answer.outcome()
        );
        check(&answer, life);
    }
    found
}

fn placement(life: &Life) -> Placement {
    Placement {
        kind: Kind::Container,
        container: Some(Container {
            id: life.id.clone(),
            runtime: None,
        }),
        pod: Some(PodRef::Uid(life.uid.clone())),
        unit: None,
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn unknown_is_allowed_wrong_never(steps in steps()) {
        run(&steps);
    }
}

#[test]
fn the_churn_finds_containers_and_not_only_unknown_ones() {
    use Step::{Ask, Delete, List, Make, Pass, Restart, Tell};
    let steps = [
        Make(0),
        Tell(0),
        Pass(3),
        Restart(0),
        Tell(0),
        Ask(0, 1, true),
        Ask(1, 0, false),
        Delete(0),
        Make(0),
        List(0, true),
        Ask(1, 0, true),
        Ask(2, 0, true),
    ];
    assert_eq!(run(&steps), 4);
}

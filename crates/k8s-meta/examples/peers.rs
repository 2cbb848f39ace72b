//! What it costs to know all of a cluster: `cargo run --release -p spandrel-k8s-meta --example peers [PODS]`.
//!
//! Another process plays the API server with pods, Services and nodes as large as they usually are, first as streams
//! (WatchList), then in pages. This one watches as the agent does and tells bytes, time, CPU and memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::expect_used)]

#[allow(dead_code, reason = "shared with tests that need more")]
#[path = "../tests/cluster/mod.rs"]
mod cluster;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spandrel_k8s_meta::peers::{Node, PeerKind, PeerPod, Peers, Service, Settings as PeerSettings};
use spandrel_k8s_meta::watch::{Access, Change, Counters, Object, Scope, Settings, Watch};
use spandrel_model::UnixTime;
use tokio::sync::mpsc;

const PAGE: usize = 500;
/// Changes that come after the first list.
const NEWS: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", mode, pods] => serve(mode == "streams", pods.parse().unwrap()),
        ["measure", mode, pods, url] => measure(mode, pods.parse().unwrap(), url),
        [] => all(100_000),
        [pods] => all(pods.parse().expect("a number of pods")),
        _ => println!("usage: peers [PODS]"),
    }
}

/// Each in processes of their own, so that the memory of one is not that of another.
fn all(pods: usize) {
    let own = std::env::current_exe().unwrap();
    println!(
        "a pod: {} bytes of JSON, a Service: {}, a node: {}",
        pod(1).len(),
        service(1).len(),
        node(1).len()
    );
    for mode in ["streams", "pages"] {
        let mut server = Command::new(&own)
            .args(["serve", mode, &pods.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let mut said = BufReader::new(server.stdout.take().unwrap());
        said.read_line(&mut url).unwrap();
        let measured = Command::new(&own)
            .args(["measure", mode, &pods.to_string(), url.trim()])
            .status();
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(measured.unwrap().success());
    }
}

fn measure(mode: &str, pods: usize, url: &str) {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "token").unwrap();
    let access = Access::Server {
        url: url.to_owned(),
        ca_file: None,
        token_file: token.path().to_owned(),
    };
    let settings = Settings {
        start_jitter: Duration::ZERO,
        ..Settings::new(access, Scope::Cluster)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let peers = Arc::new(Mutex::new(Peers::new(PeerSettings::default())));
    let counters = Arc::new(Counters::default());
    let (before, began, cpu) = (status("VmRSS"), Instant::now(), cpu());
    let synced = runtime.block_on(async {
        let (done, mut lists) = mpsc::channel(3);
        watch::<PeerPod>(
            &settings,
            &counters,
            &peers,
            done.clone(),
            |peers, pod, now| {
                peers.apply_pod(pod, now);
            },
        );
        watch::<Service>(
            &settings,
            &counters,
            &peers,
            done.clone(),
            |peers, service, now| {
                peers.apply_service(service, now);
            },
        );
        watch::<Node>(&settings, &counters, &peers, done, |peers, node, now| {
            peers.apply_node(node, now);
        });
        for _ in 0..3 {
            lists.recv().await.unwrap();
        }
        began.elapsed()
    });
    let listed = counters.figures();
    let objects = peers.lock().unwrap().len();
    assert!(objects > pods, "{objects}");
    let in_list = self::cpu() - cpu;
    println!(
        "{mode}: {pods} pods, {} objects: {:.1} MB from the API server in {} requests, synced after {:.2} s, {:.2} s of CPU",
        objects,
        listed.bytes as f64 / 1e6,
        listed.lists + listed.watches,
        synced.as_secs_f64(),
        in_list,
    );
    println!(
        "{mode}: resident {:.1} MB before, {:.1} MB after, {:.1} MB at most",
        before,
        status("VmRSS"),
        status("VmHWM")
    );
    let wanted = listed.events + NEWS as u64;
    let (began, cpu) = (Instant::now(), self::cpu());
    while counters.figures().events < wanted {
        assert!(began.elapsed() < Duration::from_secs(60), "no news");
        std::thread::sleep(Duration::from_millis(5));
    }
    println!(
        "{mode}: {NEWS} changes of pods: {:.1} us of CPU each",
        (self::cpu() - cpu) * 1e6 / NEWS as f64
    );
    let began = Instant::now();
    peers.lock().unwrap().expire(now());
    println!(
        "{mode}: expire, nothing to do: {:.2} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
}

/// One kind, as the agent watches it; tells when its list is complete.
fn watch<K: Object>(
    settings: &Settings,
    counters: &Arc<Counters>,
    peers: &Arc<Mutex<Peers>>,
    done: mpsc::Sender<()>,
    apply: fn(&mut Peers, &K, UnixTime),
) {
    let kind = match K::KIND {
        "Pod" => PeerKind::Pod,
        "Service" => PeerKind::Service,
        _ => PeerKind::Node,
    };
    let (sender, mut changes) = mpsc::channel(64);
    let watch = Watch::new(settings.clone(), Arc::clone(counters));
    tokio::spawn(watch.run::<K>(sender));
    let peers = Arc::clone(peers);
    tokio::spawn(async move {
        while let Some(change) = changes.recv().await {
            let complete = matches!(change, Change::ListComplete);
            {
                let mut peers = peers.lock().unwrap();
                match change {
                    Change::ListBegan => peers.begin_list(kind),
                    Change::Apply(object) | Change::Delete(object) => {
                        apply(&mut peers, &object, now());
                    }
                    Change::ListComplete => peers.end_list(kind, now()),
                    Change::Failed(failure) => println!("{failure}"),
                }
            }
            if complete {
                done.send(()).await.unwrap();
            }
        }
    });
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime(u64::try_from(since.as_nanos()).unwrap())
}

/// A line of /proc/self/status, in MB.
fn status(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        * 1024.0
        / 1e6
}

/// Seconds of CPU of this process so far.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

/// The API server: one thread for each request, and each connection has one.
fn serve(streams: bool, pods: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    for connection in listener.incoming() {
        let connection = connection.unwrap();
        std::thread::spawn(move || drop(answer(&connection, streams, pods)));
    }
}

fn answer(connection: &TcpStream, streams: bool, pods: usize) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().unwrap()?;
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let target = request.split(' ').nth(1).unwrap();
    let value = |name: &str| {
        let pairs = target
            .split(['?', '&'])
            .filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let (kind, count, object): (_, _, fn(usize) -> String) = match target {
        it if it.contains("/pods") => ("Pod", pods, pod),
        it if it.contains("/services") => ("Service", pods / 20, service),
        _ => ("Node", pods / 50, node),
    };
    let mut to = BufWriter::with_capacity(1 << 16, connection);
    let head = |status: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    };
    if target.contains("sendInitialEvents=true") && !streams {
        to.write_all(head("422 Unprocessable Entity").as_bytes())?;
        to.write_all(br#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no streams","code":422}"#)?;
        return to.flush();
    }
    to.write_all(head("200 OK").as_bytes())?;
    if !target.contains("watch=true") {
        let from: usize = value("continue").map_or(0, |it| it.parse().unwrap());
        let end = count.min(from + PAGE);
        let next = if end < count {
            end.to_string()
        } else {
            String::new()
        };
        write!(
            to,
            r#"{{"kind":"{kind}List","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"{next}"}},"items":["#
        )?;
        for at in from..end {
            let comma = if at > from { "," } else { "" };
            write!(to, "{comma}{}", object(at))?;
        }
        to.write_all(b"]}")?;
        return to.flush();
    }
    if target.contains("sendInitialEvents=true") {
        for at in 0..count {
            writeln!(to, r#"{{"type":"ADDED","object":{}}}"#, object(at))?;
        }
        writeln!(
            to,
            r#"{{"type":"BOOKMARK","object":{{"kind":"{kind}","apiVersion":"v1","metadata":{{"resourceVersion":"9","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}}}"#
        )?;
    }
    to.flush()?;
    if kind == "Pod" {
        // The list is measured first.
        std::thread::sleep(Duration::from_secs(2));
        for at in 0..NEWS {
            let newer = pod(at).replacen(r#""resourceVersion":""#, r#""resourceVersion":"9"#, 1);
            writeln!(to, r#"{{"type":"MODIFIED","object":{newer}}}"#)?;
        }
        to.flush()?;
    }
    std::thread::sleep(Duration::from_secs(120));
    Ok(())
}

/// A pod with what the parts of a cluster add to it: who wrote which field, volumes, probes, tolerations, conditions.
fn pod(number: usize) -> String {
    let mut fields = String::new();
    for manager in ["kube-controller-manager", "kubelet"] {
        let mut owned = String::new();
        for at in 0..28 {
            write!(
                owned,
                r#""f:field-{at}":{{".":{{}},"f:name":{{}},"f:value":{{}}}},"#
            )
            .unwrap();
        }
        write!(
            fields,
            r#"{{"manager":"{manager}","operation":"Update","apiVersion":"v1","time":"2025-11-23T10:00:04Z","fieldsType":"FieldsV1","fieldsV1":{{{owned}"f:status":{{}}}}}},"#
        )
        .unwrap();
    }
    let spec = r#""volumes":[{"name":"kube-api-access-x7k2p","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","securityContext":{},"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority","containers":["#;
    let container = r#""livenessProbe":{"httpGet":{"path":"/healthz","port":8080,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent","volumeMounts":[{"name":"kube-api-access-x7k2p","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"env":[{"name":"DATABASE_URL","value":"postgres://db.shop.svc:5432/shop"},{"name":"POD_IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.podIP"}}},"#;
    let mut conditions = String::new();
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        write!(conditions, r#"{{"type":"{kind}","status":"True","lastProbeTime":null,"lastTransitionTime":"2025-11-23T10:00:04Z"}},"#).unwrap();
    }
    conditions.pop();
    cluster::json(number)
        .replacen(
            r#""managedFields":["#,
            &format!(r#""managedFields":[{fields}"#),
            1,
        )
        .replacen(r#""containers":["#, spec, 1)
        .replace(r#""env":["#, container)
        .replacen(
            r#""startTime""#,
            &format!(r#""conditions":[{conditions}],"startTime""#),
            1,
        )
}

fn service(number: usize) -> String {
    format!(
        r#"{{"metadata":{{"name":"service-{number}","namespace":"team-{}","uid":"{number:08x}-5e1d-4b6e-9f20-7a8b9c0d1e2f","resourceVersion":"5","creationTimestamp":"2025-11-23T09:00:00Z","managedFields":[{{"manager":"helm","operation":"Update","fieldsV1":{{"f:spec":{{"f:ports":{{"k:{{\"port\":80}}":{{}}}},"f:selector":{{}}}}}}}}]}},"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":8080}}],"selector":{{"app.kubernetes.io/name":"service-{number}"}},"clusterIP":"10.{}.{}.{}","clusterIPs":["10.{}.{}.{}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack"}},"status":{{"loadBalancer":{{}}}}}}"#,
        number % 40,
        100 + (number >> 16),
        number >> 8 & 255,
        number & 255,
        100 + (number >> 16),
        number >> 8 & 255,
        number & 255,
    )
}

/// Nearly all of a node is the list of its images.
fn node(number: usize) -> String {
    let mut images = String::new();
    for at in 0..50 {
        write!(images, r#"{{"names":["registry.example.com/team-{at}/app@sha256:{at:064x}","registry.example.com/team-{at}/app:1.{at}.0"],"sizeBytes":{}}},"#, 1_000_000 * at).unwrap();
    }
    images.pop();
    format!(
        r#"{{"metadata":{{"name":"node-{number}","uid":"{number:08x}-90de-4b6e-9f20-7a8b9c0d1e2f","resourceVersion":"5","creationTimestamp":"2025-11-23T08:00:00Z","labels":{{"kubernetes.io/hostname":"node-{number}","topology.kubernetes.io/zone":"a"}}}},"spec":{{"podCIDR":"10.0.0.0/24"}},"status":{{"addresses":[{{"type":"InternalIP","address":"172.16.{}.{}"}},{{"type":"Hostname","address":"node-{number}"}}],"images":[{images}]}}}}"#,
        number >> 8 & 255,
        number & 255,
    )
}

//! A real kube-apiserver with its etcd on 127.0.0.1, with RBAC on and the shipped manifests applied.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::NamedTempFile;
use tokio::sync::{OnceCell, RwLock};

use super::admin::Admin;

/// A test that stops the server or takes rights away holds it alone; all others share it.
static CLUSTER: OnceCell<RwLock<Cluster>> = OnceCell::const_new();

/// Loaded machines need long; an idle one needs 3 s.
const START: Duration = Duration::from_secs(180);

/// Of somebody who may do everything.
pub const ADMIN_TOKEN: &str = "admin-token";

/// The cluster of this test binary. `None` where it cannot be: the test is skipped, and said to be.
pub async fn cluster(test: &str) -> Option<&'static RwLock<Cluster>> {
    let programs = programs();
    if !programs.join("kube-apiserver").is_file() {
        skip(
            test,
            "no target/kube/kube-apiserver; build it with `make kube`",
        );
        return None;
    }
    Some(
        CLUSTER
            .get_or_init(|| async { RwLock::new(Cluster::start(programs).await) })
            .await,
    )
}

/// Says, also when output is captured, that a test cannot run here.
fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}\n");
    drop(write!(std::io::stderr(), "skipped: {line}"));
    if let Some(list) = env::var_os("SPANDREL_SKIPPED") {
        let mut list = OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
}

/// target/kube, whatever Cargo was told.
fn programs() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("kube")
}

pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    etcd_port: u16,
    server: Option<Child>,
    _etcd: Child,
}

impl Cluster {
    async fn start(programs: PathBuf) -> Self {
        // A static is never dropped, so what the last run left goes now.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kube");
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        credentials(&folder);
        let (etcd_port, peer_port) = (free_port(), free_port());
        let client = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let mut etcd = Command::new("setpriv");
        etcd.args(["--pdeathsig", "KILL", "--"])
            .arg(programs.join("etcd"))
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync", "--log-level", "error"]);
        let etcd = spawn(etcd, &folder.join("etcd.log"));
        let mut cluster = Self {
            folder,
            programs,
            port: free_port(),
            etcd_port,
            server: None,
            _etcd: etcd,
        };
        cluster.start_server().await;
        let admin = cluster.admin().await;
        admin.apply_file("namespace.yaml").await;
        admin.apply_file("rbac.yaml").await;
        admin.account("spandrel").await;
        cluster
    }

    /// Starts the API server, for the first time or again, and waits until it is ready.
    pub async fn start_server(&mut self) {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let log = self.folder.join("kube-apiserver.log");
        let mut server = Command::new("setpriv");
        server
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.programs.join("kube-apiserver"))
            .arg(format!(
                "--etcd-servers=http://127.0.0.1:{}",
                self.etcd_port
            ))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.port))
            .arg("--endpoint-reconciler-type=none")
            .arg(format!("--tls-cert-file={}", file("server.pem")))
            .arg(format!("--tls-private-key-file={}", file("server.key")))
            .arg(format!("--client-ca-file={}", file("ca.pem")))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!(
                "--service-account-key-file={}",
                file("accounts.pub")
            ))
            .arg(format!(
                "--service-account-signing-key-file={}",
                file("accounts.key")
            ))
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            .args(["--authorization-mode=RBAC", "--anonymous-auth=false"])
            .arg(format!("--token-auth-file={}", file("tokens.csv")));
        self.server = Some(spawn(server, &log));
        let deadline = Instant::now() + START;
        loop {
            if self.admin().await.is_ready().await {
                return;
            }
            let ended = self
                .server
                .as_mut()
                .and_then(|server| server.try_wait().unwrap());
            let text = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "kube-apiserver ended: {}", tail(&text()));
            assert!(
                Instant::now() < deadline,
                "kube-apiserver is not ready: {}",
                tail(&text())
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills the API server.
    pub fn kill_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A kubeconfig file for whoever has this token.
    pub fn kubeconfig(&self, token: &str) -> NamedTempFile {
        let content = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": self.url(), "certificate-authority": self.ca_file()}}],
            "users": [{"name": "a", "user": {"token": token}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        });
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), content.to_string()).unwrap();
        file
    }

    /// Somebody who may do everything.
    pub async fn admin(&self) -> Admin {
        Admin::new(&self.url(), &self.ca_file(), ADMIN_TOKEN).await
    }
}

fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(3000);
    let start = (start..log.len()).find(|at| log.is_char_boundary(*at));
    &log[start.unwrap_or(0)..]
}

/// A CA, a certificate for the server, a key for tokens of ServiceAccounts, and the token of the administrator.
fn credentials(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "test CA");
    write("ca.pem", &ca.self_signed(&ca_key).unwrap().pem());
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let names = [
        "127.0.0.1",
        "10.96.0.1",
        "localhost",
        "kubernetes.default.svc",
    ];
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(names.map(str::to_owned)).unwrap();
    write(
        "server.pem",
        &server.signed_by(&key, &issuer).unwrap().pem(),
    );
    write("server.key", &key.serialize_pem());
    let accounts = rcgen::KeyPair::generate().unwrap();
    write("accounts.key", &accounts.serialize_pem());
    write("accounts.pub", &accounts.public_key_pem());
    write(
        "tokens.csv",
        &format!("{ADMIN_TOKEN},admin,admin,system:masters\n"),
    );
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts it from a thread that lives as long as the tests: the child is killed when the thread that started it ends,
/// so nothing is left over whatever ends the tests.
fn spawn(mut command: Command, log: &Path) -> Child {
    type Order = (Command, SyncSender<Child>);
    static STARTER: OnceLock<Mutex<SyncSender<Order>>> = OnceLock::new();
    let log = File::options().create(true).append(true).open(log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = sync_channel::<Order>(1);
        thread::spawn(move || {
            for (mut command, answer) in orders {
                answer.send(command.spawn().expect("start it")).unwrap();
            }
        });
        Mutex::new(sender)
    });
    let (answer, child) = sync_channel(1);
    let starter = starter.lock().unwrap_or_else(PoisonError::into_inner);
    starter.send((command, answer)).unwrap();
    child.recv().expect("it was started")
}

//! What works on this machine and what does not, and what to do about it; nothing is attached.

use std::fs;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, Struct, Typedef};

use crate::cgroup;
use crate::load::{self, CaptureError};
use crate::pid_namespace;
use crate::settings::{BackendChoice, CaptureSettings};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

fn finding(what: &str, ok: bool, detail: impl Into<String>, remedy: &str) -> Finding {
    Finding {
        what: what.to_owned(),
        ok,
        detail: detail.into(),
        remedy: if ok { String::new() } else { remedy.to_owned() },
    }
}

/// Looks at everything the capture needs or can use.
pub fn preflight() -> Vec<Finding> {
    load::quiet_libbpf();
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut findings = vec![kernel_version(&release), locked_memory(&release, &limits)];
    let btf = Btf::from_vmlinux();
    findings.push(finding(
        "kernel type information",
        btf.is_ok(),
        match &btf {
            Ok(_) => "/sys/kernel/btf/vmlinux is readable".to_owned(),
            Err(error) => error.to_string(),
        },
        "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
    ));
    findings.push(lockdown());
    findings.push(pid_namespace::finding());
    findings.push(control_groups());
    findings.extend(capabilities());
    if let Ok(btf) = &btf {
        findings.extend(hooks(btf));
        findings.push(multipath(btf));
    }
    for backend in [
        BackendChoice::Socket,
        BackendChoice::Fexit,
        BackendChoice::Syscall,
    ] {
        findings.push(rung(backend));
    }
    findings
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel_version(release: &str) -> Finding {
    let remedy = "use kernel 5.12 or later";
    finding(
        "kernel version",
        version(release) >= (5, 12),
        release,
        remedy,
    )
}

/// Before 5.11 the kernel charged maps and programs to RLIMIT_MEMLOCK; libbpf then asks for no limit, if it may.
fn locked_memory(release: &str, limits: &str) -> Finding {
    let what = "locked memory";
    if version(release) >= (5, 11) {
        let detail = "maps and programs are charged to the cgroup, not to RLIMIT_MEMLOCK";
        return finding(what, true, detail, "");
    }
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_ascii_whitespace().nth(1))
        .unwrap_or("unknown");
    finding(
        what,
        limit == "unlimited",
        format!(
            "RLIMIT_MEMLOCK is at most {limit} bytes, and this kernel charges maps and programs to it"
        ),
        "raise it: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in a systemd unit",
    )
}

fn lockdown() -> Finding {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode = text
        .split(['[', ']'])
        .nth(1)
        .unwrap_or("not present")
        .to_owned();
    let remedy =
        "boot with lockdown=integrity or none: confidentiality forbids reading kernel memory";
    finding("kernel lockdown", mode != "confidentiality", mode, remedy)
}

/// By which groups containers are told apart.
fn control_groups() -> Finding {
    let detail = cgroup::version1().map_or_else(
        || "version 2".to_owned(),
        |chosen| {
            let controller = &chosen.controller;
            format!("version 2, and that of version 1's `{controller}` for processes in its root")
        },
    );
    finding("control groups", true, detail, "")
}

fn capabilities() -> Vec<Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    // CAP_SYS_ADMIN (21) includes CAP_BPF and CAP_PERFMON.
    let has = |bit: u32| effective & (1 << bit) != 0;
    let admin = has(21);
    [
        ("CAP_BPF", has(39) || admin, "load programs"),
        (
            "CAP_PERFMON",
            has(38) || admin,
            "attach programs and read memory",
        ),
        (
            "CAP_SYS_PTRACE",
            has(19),
            "read /proc of other users' processes",
        ),
        (
            "CAP_SYS_ADMIN",
            admin,
            "find older connections in other network namespaces",
        ),
    ]
    .into_iter()
    .map(|(name, ok, why)| {
        let remedy = format!("run as root, or add the capability {name}");
        let state = if ok { "held" } else { "missing" };
        finding(name, ok, format!("{state}; needed to {why}"), &remedy)
    })
    .collect()
}

fn hooks(btf: &Btf<'_>) -> Vec<Finding> {
    let kprobes = fs::metadata("/sys/bus/event_source/devices/kprobe").is_ok();
    let detail = if kprobes {
        "available"
    } else {
        "not in this kernel"
    };
    // Not a fault: nothing here uses them.
    let mut findings = vec![finding(
        "kprobes",
        true,
        format!("{detail}; not needed"),
        "",
    )];
    for (name, lost) in [
        ("btf_trace_sock_send_length", "backend `socket`"),
        ("btf_trace_sys_exit", "backend `syscall`"),
        ("btf_trace_inet_sock_set_state", "connection life"),
        ("btf_trace_tcp_destroy_sock", "closes after the last read"),
        ("btf_trace_tcp_sendmsg_locked", "starts of sends"),
        ("btf_trace_sk_data_ready", "arrival of received data"),
        (
            "btf_trace_tcp_rcv_space_adjust",
            "length of what is read by splice (backend `socket`)",
        ),
        ("btf_trace_sched_process_exec", "process starts"),
    ] {
        let present = btf.type_by_name::<Typedef<'_>>(name).is_some()
            || btf.type_by_name::<Func<'_>>(name).is_some();
        let hook = name.trim_start_matches("btf_trace_");
        let detail = if present {
            "present".to_owned()
        } else {
            format!("missing; without it there is no {lost}")
        };
        findings.push(finding(
            &format!("tracepoint {hook}"),
            present,
            detail,
            "use a newer kernel, or do without",
        ));
    }
    findings
}

/// Not a fault where it is missing: then no program can use it.
fn multipath(btf: &Btf<'_>) -> Finding {
    let socket = btf.type_by_name::<Struct<'_>>("mptcp_sock");
    let enabled = fs::read_to_string("/proc/sys/net/mptcp/enabled").unwrap_or_default();
    let counts = socket.is_some_and(|socket| {
        let consumed = std::ffi::OsStr::new("bytes_consumed");
        socket.iter().any(|member| member.name == Some(consumed))
    });
    let detail = if socket.is_none() {
        "not in this kernel"
    } else if enabled.trim() == "0" {
        "seen like TCP; switched off here (net.mptcp.enabled)"
    } else if counts {
        "seen like TCP, but not by backend `fexit`"
    } else {
        "seen like TCP, but bytes that were not seen leave no gap"
    };
    finding("MPTCP", true, detail, "")
}

fn rung(backend: BackendChoice) -> Finding {
    let settings = CaptureSettings {
        backend,
        ring_buffer_bytes: 64 << 10,
        ..CaptureSettings::default()
    };
    let what = format!("backend {}", format!("{backend:?}").to_lowercase());
    let mut places = [const { std::mem::MaybeUninit::uninit() }; load::ATTEMPTS];
    match load::load(&settings, &mut places) {
        Ok(_) => finding(&what, true, "this kernel takes its programs", ""),
        Err(error) => {
            let detail = match error {
                CaptureError::Refused(reason) => reason,
                other => other.to_string(),
            };
            let remedy = "none needed while another backend works";
            finding(&what, false, detail, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_memory_matters_to_old_kernels_only() {
        let limited = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         65536                65536                bytes\n";
        let unlimited = limited.replace("65536", "unlimited");
        assert!(locked_memory("6.18.44", limited).ok);
        assert!(locked_memory("5.10.0-9-amd64", &unlimited).ok);
        let found = locked_memory("5.10.0-9-amd64", limited);
        assert!(!found.ok && found.detail.contains("65536"), "{found:?}");
        assert!(found.remedy.contains("ulimit -l unlimited"));
    }
}

//! The name of a service that does not name itself: its systemd unit, else its program.

use std::path::Path;

use spandrel_k8s_meta::cgroup::unescape_unit;

use super::interpreter;

/// Units whose processes are programs of somebody else, so that the unit says nothing about the service.
const GENERIC_UNITS: &[&str] = &[
    "anacron",
    "atd",
    "cloud-final",
    "cloud-init",
    "containerd",
    "cron",
    "crond",
    "display-manager",
    "docker",
    "gdm",
    "inetd",
    "lightdm",
    "podman",
    "rc-local",
    "rescue",
    "sddm",
    "ssh",
    "sshd",
    "supervisor",
    "supervisord",
    "systemd-nspawn",
    "xinetd",
];

/// Templates of that sort, and of one instance per user or connection.
const GENERIC_TEMPLATES: &[&str] = &[
    "getty",
    "serial-getty",
    "ssh",
    "sshd",
    "systemd-nspawn",
    "user",
    "user-runtime-dir",
];

/// The service name a systemd unit stands for, if it stands for one.
pub(super) fn from_unit(unit: &str) -> Option<String> {
    let name = unescape_unit(unit.strip_suffix(".service")?);
    let generic = GENERIC_UNITS.contains(&name.as_str())
        || name
            .split_once('@')
            .is_some_and(|(template, _)| GENERIC_TEMPLATES.contains(&template))
        || name.starts_with("pm2-")
        || is_transient(&name);
    (!name.is_empty() && !generic).then_some(name)
}

/// `systemd-run` without a name gives `run-u17` or `run-r` and 32 digits.
fn is_transient(name: &str) -> bool {
    match name.strip_prefix("run-") {
        Some(rest) => match (rest.strip_prefix('u'), rest.strip_prefix('r')) {
            (Some(digits), _) => digits.bytes().all(|byte| byte.is_ascii_digit()),
            (_, Some(digits)) => digits.len() == 32,
            _ => false,
        },
        None => false,
    }
}

/// The name of a running program.
pub(super) fn from_program(
    executable: Option<&Path>,
    arguments: &[String],
    directory: Option<&Path>,
) -> Option<String> {
    let first = arguments.first().map(String::as_str);
    // All of busybox is one file; only the first argument tells the applets apart.
    let name = executable
        .and_then(file_name)
        .filter(|name| *name != "busybox")
        .or_else(|| {
            first
                .map(|first| first.trim_start_matches('-'))
                .and_then(|first| file_name(Path::new(first)))
        })?;
    let script = interpreter::script_name(name, arguments, directory);
    Some(script.unwrap_or_else(|| interpreter::without_ending(name).to_owned()))
}

/// The name of a program of which only the path given to `execve` is left, which may be a script.
pub(super) fn from_filename(filename: &str) -> Option<String> {
    let path = Path::new(filename);
    let name = file_name(path)?;
    Some(if interpreter::is_script(name) {
        interpreter::name_of_script(filename, None)
    } else {
        interpreter::without_ending(name).to_owned()
    })
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_its_service() {
        for (unit, name) in [
            ("nginx.service", "nginx"),
            ("postgresql@15-main.service", "postgresql@15-main"),
            (r"shop@eu\x2dwest.service", "shop@eu-west"),
            ("running.service", "running"),
        ] {
            assert_eq!(from_unit(unit).as_deref(), Some(name));
        }
    }

    #[test]
    fn sessions_and_generic_units_name_nothing() {
        for unit in [
            "session-1.scope",
            "init.scope",
            "cron.service",
            "ssh.service",
            "user@1000.service",
            "sshd@3-10.0.0.1:22-10.0.0.2:999.service",
            "run-u17.service",
            "run-r0123456789abcdef0123456789abcdef.service",
            "pm2-root.service",
            ".service",
        ] {
            assert_eq!(from_unit(unit), None, "{unit}");
        }
    }

    #[test]
    fn a_native_program_is_named_by_its_file() {
        let arguments = ["nginx: worker process".to_owned()];
        let nginx = Some(Path::new("/usr/sbin/nginx"));
        assert_eq!(
            from_program(nginx, &arguments, None).as_deref(),
            Some("nginx")
        );
        let applet = ["/usr/sbin/httpd".to_owned(), "-f".to_owned()];
        let busybox = Some(Path::new("/bin/busybox"));
        assert_eq!(
            from_program(busybox, &applet, None).as_deref(),
            Some("httpd")
        );
        assert_eq!(from_program(None, &[], None), None);
        let bun = Some(Path::new("/srv/node_modules/bun/bin/bun.exe"));
        let line = ["bun".to_owned(), "-e".to_owned(), "1".to_owned()];
        assert_eq!(from_program(bun, &line, None).as_deref(), Some("bun"));
    }

    #[test]
    fn a_filename_that_is_a_script_is_named_by_its_stem() {
        assert_eq!(
            from_filename("/srv/shop/worker.py").as_deref(),
            Some("worker")
        );
        assert_eq!(
            from_filename("/usr/bin/python3.11").as_deref(),
            Some("python3.11")
        );
        assert_eq!(from_filename("/"), None);
    }
}

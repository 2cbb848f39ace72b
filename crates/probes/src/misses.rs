//! Runs of programs that the kernel skipped, because the program was already running on that CPU.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use libbpf_rs::libbpf_sys;
use libbpf_rs::skel::Skel as _;

use crate::load::{CaptureError, Loaded};

/// The loaded programs, for asking about each by its own descriptor: to list all programs of the machine takes
/// CAP_SYS_ADMIN, which a capture does without.
#[derive(Debug)]
pub(crate) struct Programs(Vec<(String, OwnedFd)>);

/// What the kernel skipped of one program.
pub(crate) struct Missed {
    pub(crate) program: String,
    pub(crate) runs: u64,
}

impl Missed {
    /// Whether each run of the program may be a message.
    pub(crate) fn are_messages(&self) -> bool {
        let no_message = ["fexit_start", "fexit_ready", "uring_copy", "uring_submit"];
        ["socket_", "fexit_", "syscall_", "uring_"]
            .iter()
            .any(|prefix| self.program.starts_with(prefix))
            && !no_message.contains(&self.program.as_str())
    }
}

impl Programs {
    pub(crate) fn of(loaded: &Loaded<'_>) -> Result<Self, CaptureError> {
        loaded
            .skeleton
            .object()
            .progs_mut()
            .filter(|program| program.autoload())
            .map(|program| {
                let name = program.name().to_string_lossy().into_owned();
                let own = program.as_fd().try_clone_to_owned();
                own.map(|own| (name, own))
            })
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|error| CaptureError::kernel("keep a program at hand", error))
    }

    /// Each program, also those without misses.
    pub(crate) fn recursion_misses(&self) -> impl Iterator<Item = Missed> + '_ {
        self.0.iter().filter_map(|(name, program)| {
            recursion_misses(program)
                .inspect_err(|error| tracing::warn!(%error, "cannot ask about the program {name}"))
                .ok()
                .map(|runs| Missed {
                    program: name.clone(),
                    runs,
                })
        })
    }
}

fn recursion_misses(program: &OwnedFd) -> std::io::Result<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: the descriptor is that of a program and lives through the call; `info` is all zeros, so it names no
    // buffer to be filled, and the kernel writes at most `length` bytes, the size of `info`.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            std::ptr::from_mut(&mut info).cast(),
            &mut length,
        )
    };
    if result < 0 {
        return Err(std::io::Error::from_raw_os_error(-result));
    }
    Ok(info.recursion_misses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_see_messages_miss_messages() {
        let are = |program: &str| {
            let (program, runs) = (program.to_owned(), 1);
            Missed { program, runs }.are_messages()
        };
        for program in ["socket_send", "socket_unseen", "fexit_splice", "uring_send"] {
            assert!(are(program), "{program}");
        }
        for program in ["uring_submit", "uring_copy", "fexit_ready", "tcp_state"] {
            assert!(!are(program), "{program}");
        }
    }
}

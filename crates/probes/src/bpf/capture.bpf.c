/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* One object: its programs share their maps, and each is loaded only where it is wanted and accepted. */
#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "events.h"
#include "maps.h"
#include "pid_namespace.h"
#include "cgroup.h"
#include "asked.h"
#include "groups.h"
#include "connection.h"
#include "own.h"
#include "reader.h"
#include "heads.h"
#include "payload.h"
#include "lineage.h"
#include "positions.h"
#include "unix.h"
#include "message.h"
#include "syscall.h"
#include "several.h"
#include "packet.h"
#include "uring.h"

#include "socket.bpf.c"
#include "lifecycle.bpf.c"
#include "fexit.bpf.c"
#include "processes.bpf.c"
#include "syscall.bpf.c"
#include "uring.bpf.c"
#include "existing.bpf.c"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Types of records that are built on the stack come into the object's BTF only so, for the test of the layout. */
struct event_opened *layout_opened;
struct event_opened_unix *layout_opened_unix;
struct event_half_closed *layout_half_closed;
struct event_closed *layout_closed;
struct event_process_exited *layout_process_exited;
struct event_group *layout_group;
struct process_asked *layout_process_asked;

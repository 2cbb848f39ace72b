/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* One object: its programs share their maps, and each is loaded only where it is wanted and accepted. */
#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "events.h"
#include "maps.h"
#include "connection.h"
#include "payload.h"
#include "message.h"
#include "syscall.h"

#include "socket.bpf.c"
#include "lifecycle.bpf.c"
#include "processes.bpf.c"
#include "syscall.bpf.c"
#include "existing.bpf.c"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

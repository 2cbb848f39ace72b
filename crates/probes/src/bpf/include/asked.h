/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Questions to user space. */
#pragma once

/*
 * Processes that nothing is decided about, which user space learns here ahead of all that waits in the ring: one that lives
 * shortly has ended when its first event is read. The oldest makes room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1024);
	__type(value, struct process_asked);
} asked SEC(".maps");

static __always_inline void ask_about(struct task_struct *task, __u32 tgid, __u64 time, bool executed)
{
	struct process_asked about = { .time = time, .tgid = tgid, .executed = executed };

	about.process_started = task->group_leader->start_boottime;
	about.cgroup = cgroup_of(task);
	bpf_map_push_elem(&asked, &about, BPF_EXIST);
}

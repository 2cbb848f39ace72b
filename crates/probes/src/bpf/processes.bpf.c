/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Processes: programs executed, last threads ended. */

/* Too large for the stack; the tracepoint runs with preemption off. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_process_started);
} started SEC(".maps");

/* What was decided about a process does not hold for another program, or for the next process of the same number. */
static __always_inline void forget_process(__u32 tgid)
{
	if (!bpf_map_delete_elem(&processes, &tgid)) {
		__sync_fetch_and_add(&processes_forgotten, 1);
		COUNT(processes_ended);
	}
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *binary)
{
	struct event_process_started *event;
	__u32 zero = 0, tgid = tgid_of(task);
	int length;

	if (is_outside(tgid))
		return 0;
	forget_process(tgid);
	event = bpf_map_lookup_elem(&started, &zero);
	if (!event)
		return 0;
	begin(&event->header, EVENT_PROCESS_STARTED);
	event->tgid = tgid;
	event->parent = tgid_of(task->real_parent);
	event->process_started = task->group_leader->start_boottime;
	event->cgroup = cgroup_of(task);
	bpf_probe_read_kernel(event->comm, sizeof(event->comm), task->comm);
	length = bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), BPF_CORE_READ(binary, filename));
	event->filename_length = length > 0 ? length - 1 : 0;
	tell_group(task, event->cgroup);
	/* Of a script it is the interpreter, as /proc/PID/exe shows it. */
	length = bpf_probe_read_kernel_str(event->executable, sizeof(event->executable),
					   BPF_CORE_READ(binary, file, f_path.dentry, d_name.name));
	event->executable_length = length > 0 ? length - 1 : 0;
	ask_about(task, tgid, event->header.time, true);
	submit_started(event);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	union control_event event = {};
	__u32 tgid = tgid_of(task);

	if (task->signal->live.counter != 0 || is_outside(tgid))
		return 0;
	forget_process(tgid);
	begin(&event.header, EVENT_PROCESS_EXITED);
	event.process_exited.tgid = tgid;
	event.process_exited.process_started = task->group_leader->start_boottime;
	submit_control(&event, sizeof(event.process_exited));
	return 0;
}

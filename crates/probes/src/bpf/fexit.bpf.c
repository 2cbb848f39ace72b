/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Backend `fexit`: the ends of the functions that send and receive, for kernels without the tracepoints of backend
 * `socket`. Their starts give what newer kernels have tracepoints for.
 */

SEC("fentry/tcp_sendmsg")
int BPF_PROG(fexit_start, struct sock *sk, struct msghdr *message)
{
	on_send_start(sk, message, 0, 0);
	return 0;
}

/* Wakes who waits for received data. */
SEC("fentry/sock_def_readable")
int BPF_PROG(fexit_ready, struct sock *sk)
{
	on_data_ready(sk);
	return 0;
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(fexit_send, struct sock *sk, struct msghdr *message, __u64 length, int ret)
{
	return on_socket_length(SLOT_SEND, sk, ret, 0, DIRECTION_EGRESS);
}

/* In assembler, or the compiler makes one load of several with an offset that the verifier refuses. */
#define CONTEXT(value, ctx, n) asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value) : "r"(ctx), "i"((n)*8))

/*
 * The result comes after the arguments, whose number differs: a sixth, before the flags, until kernel 5.18, and no
 * address length in some kernels. The branches of other kernels are gone before the verifier looks.
 */
SEC("fexit/tcp_recvmsg")
int fexit_recv(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	__u64 ret, flags;

	if (recv_arguments == 4) {
		CONTEXT(flags, ctx, 3);
		CONTEXT(ret, ctx, 4);
	} else if (recv_arguments == 5) {
		CONTEXT(flags, ctx, 3);
		CONTEXT(ret, ctx, 5);
	} else {
		CONTEXT(flags, ctx, 4);
		CONTEXT(ret, ctx, 6);
	}
	return on_socket_length(SLOT_RECV, sk, ret, flags, DIRECTION_INGRESS);
}

/* Until kernel 6.4 sendfile and splice do not send with tcp_sendmsg. */
SEC("fexit/tcp_sendpage")
int BPF_PROG(fexit_send_page, struct sock *sk, struct page *page, int offset, __u64 size, int flags, int ret)
{
	return on_socket_length(SLOT_SEND_PAGE, sk, ret, 0, DIRECTION_EGRESS);
}

SEC("fexit/tcp_splice_read")
int BPF_PROG(fexit_splice, struct socket *socket, __s64 *position, void *pipe, __u64 length, unsigned int flags,
	     __s64 ret)
{
	return on_socket_length(SLOT_SPLICE, socket->sk, ret, 0, DIRECTION_INGRESS);
}

SEC("fexit/unix_stream_sendmsg")
int BPF_PROG(fexit_unix_send, struct socket *socket, struct msghdr *message, __u64 length, int ret)
{
	return on_socket_length(SLOT_UNIX_SEND, socket->sk, ret, 0, DIRECTION_EGRESS);
}

SEC("fexit/unix_stream_recvmsg")
int BPF_PROG(fexit_unix_recv, struct socket *socket, struct msghdr *message, __u64 length, int flags, int ret)
{
	return on_socket_length(SLOT_UNIX_RECV, socket->sk, ret, flags, DIRECTION_INGRESS);
}

/*
 * An HTTP server on liburing: reads requests and sends answers in the way that its first argument names, one connection
 * after the other. Answers with the status that a path begins with, or 200, and prints one JSON line for each request.
 */
#define _GNU_SOURCE
#include <liburing.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { READS = 1, WRITES = 2, SIZE = 16384, BUFFERS = 8, GROUP = 1 };

struct done {
	int res;
	unsigned flags;
};

static struct io_uring ring;
static struct io_uring_buf_ring *provided;
static char buffers[BUFFERS][SIZE], out[2][512];
static const char *mode;
static int is_armed;

static int is(const char *name) { return strcmp(mode, name) == 0; }

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-result));
		exit(1);
	}
}

static unsigned long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static int takes_provided(void) { return is("provided") || is("multishot"); }

static void give_buffer(int number)
{
	io_uring_buf_ring_add(provided, buffers[number], SIZE, number, io_uring_buf_ring_mask(BUFFERS), 0);
	io_uring_buf_ring_advance(provided, 1);
}

/* Waits for the end of a request of this kind; the notification of a zero-copy send is passed over. */
static struct done wait_for(unsigned long long kind)
{
	struct io_uring_cqe *cqe;
	unsigned long long of;
	struct done done;

	for (;;) {
		must(io_uring_submit_and_wait(&ring, 1), "submit");
		must(io_uring_peek_cqe(&ring, &cqe), "peek");
		done = (struct done){ cqe->res, cqe->flags };
		of = cqe->user_data;
		io_uring_cqe_seen(&ring, cqe);
		if (of == kind && !(done.flags & IORING_CQE_F_NOTIF))
			return done;
	}
}

static struct io_uring_sqe *next(int kind)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe)
		exit(1);
	sqe->user_data = kind;
	return sqe;
}

static void dress(struct io_uring_sqe *sqe, int kind)
{
	sqe->user_data = kind;
	if (is("fixed_file"))
		sqe->flags |= IOSQE_FIXED_FILE;
	if (is("async"))
		sqe->flags |= IOSQE_ASYNC;
}

/* Appends what comes to `to`; 0 at the end. */
static int receive(int fd, char *to)
{
	static struct msghdr header;
	static struct iovec vector[2];
	struct done done;
	int number = 0;

	if (!is_armed) {
		struct io_uring_sqe *sqe = next(READS);

		vector[0] = (struct iovec){ buffers[0], 100 };
		vector[1] = (struct iovec){ buffers[0] + 100, SIZE - 100 };
		header = (struct msghdr){ .msg_iov = vector, .msg_iovlen = 2 };
		if (is("recvmsg"))
			io_uring_prep_recvmsg(sqe, fd, &header, 0);
		else if (is("read_write"))
			io_uring_prep_read(sqe, fd, buffers[0], SIZE, 0);
		else if (is("readv_writev"))
			io_uring_prep_readv(sqe, fd, vector, 2, 0);
		else if (is("read_write_fixed"))
			io_uring_prep_read_fixed(sqe, fd, buffers[0], SIZE, 0, 0);
		else if (is("multishot"))
			io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
		else
			io_uring_prep_recv(sqe, fd, takes_provided() ? NULL : buffers[0], SIZE, 0);
		dress(sqe, READS);
		if (takes_provided()) {
			sqe->flags |= IOSQE_BUFFER_SELECT;
			sqe->buf_group = GROUP;
		}
	}
	done = wait_for(READS);
	is_armed = is("multishot") && done.flags & IORING_CQE_F_MORE;
	if (done.res <= 0)
		return 0;
	if (takes_provided())
		number = done.flags >> IORING_CQE_BUFFER_SHIFT;
	memcpy(to, buffers[number], done.res);
	if (takes_provided())
		give_buffer(number);
	return done.res;
}

static void answer(int fd, int status)
{
	static struct msghdr header;
	static struct iovec vector[2];
	struct io_uring_sqe *sqe = next(WRITES);
	int head = snprintf(out[0], sizeof out[0], "HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n", status);
	int size = head + 5;

	strcpy(out[1], "uring");
	vector[0] = (struct iovec){ out[0], head };
	vector[1] = (struct iovec){ out[1], 5 };
	header = (struct msghdr){ .msg_iov = vector, .msg_iovlen = 2 };
	if (is("recvmsg")) {
		io_uring_prep_sendmsg(sqe, fd, &header, 0);
	} else if (is("readv_writev")) {
		io_uring_prep_writev(sqe, fd, vector, 2, 0);
	} else {
		memcpy(out[0] + head, "uring", 5);
		if (is("read_write"))
			io_uring_prep_write(sqe, fd, out[0], size, 0);
		else if (is("read_write_fixed"))
			io_uring_prep_write_fixed(sqe, fd, out[0], size, 0, 1);
		else if (is("send_zc"))
			io_uring_prep_send_zc(sqe, fd, out[0], size, 0, 0);
		else
			io_uring_prep_send(sqe, fd, out[0], size, 0);
	}
	dress(sqe, WRITES);
	if (wait_for(WRITES).res != size)
		exit(1);
}

static long length_of(const char *head)
{
	const char *at = strcasestr(head, "content-length:");

	return at ? atol(at + 15) : 0;
}

static void serve(int fd)
{
	static char held[1 << 20];
	long got = 0;

	for (;;) {
		unsigned long long begun = now();
		char method[16], path[1000], *end;
		long head, body;
		int status, n;

		for (;;) {
			held[got] = 0;
			end = strstr(held, "\r\n\r\n");
			if (end) {
				*end = 0;
				head = end + 4 - held;
				body = length_of(held);
				*end = '\r';
				if (got >= head + body)
					break;
			}
			n = receive(fd, held + got);
			if (!n)
				return;
			got += n;
		}
		if (sscanf(held, "%15s %999s", method, path) != 2)
			exit(1);
		status = atoi(path + 1) >= 100 ? atoi(path + 1) : 200;
		answer(fd, status);
		printf("{\"method\":\"%s\",\"path\":\"%s\",\"status\":%d,\"start_ns\":%llu,\"end_ns\":%llu,"
		       "\"request_body\":%ld,\"response_body\":5}\n",
		       method, path, status, begun, now(), body);
		memmove(held, held + head + body, got - head - body);
		got -= head + body;
	}
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	struct iovec fixed[2] = { { buffers[0], SIZE }, { out[0], sizeof out[0] } };
	unsigned flags = 0;
	int listener, fd;

	if (count < 2)
		return 2;
	mode = arguments[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (is("sqpoll"))
		flags = IORING_SETUP_SQPOLL;
	else if (is("defer_taskrun"))
		flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	must(io_uring_queue_init(16, &ring, flags), "make a ring");
	must(io_uring_register_buffers(&ring, fixed, 2), "register buffers");
	if (takes_provided()) {
		struct io_uring_buf_reg group = { .ring_entries = BUFFERS, .bgid = GROUP };

		if (posix_memalign((void **)&provided, 4096, 4096))
			return 1;
		group.ring_addr = (unsigned long)provided;
		must(io_uring_register_buf_ring(&ring, &group, 0), "provide buffers");
		io_uring_buf_ring_init(provided);
		for (int i = 0; i < BUFFERS; i++)
			give_buffer(i);
	}
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (void *)&address, length) || listen(listener, 16) ||
	    getsockname(listener, (void *)&address, &length))
		return 1;
	printf("{\"listening\": %d}\n", ntohs(address.sin_port));
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		if (is("fixed_file")) {
			must(io_uring_register_files(&ring, &fd, 1), "register a file");
			serve(0);
			io_uring_unregister_files(&ring);
		} else {
			serve(fd);
		}
		close(fd);
	}
	return 0;
}

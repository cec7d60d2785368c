/* A long network path between this host and a network namespace of its own, for kernels without the netem queue.
 *
 *   wan NEAR FAR DELAY_US LOSS_PPM BYTES_PER_S
 *
 * It makes the TUN device NEAR here, moves itself into a new network namespace, makes FAR there, and carries packets between the two:
 * each is delivered DELAY_US later, or lost with a chance of LOSS_PPM in a million. BYTES_PER_S (0: unlimited) is the capacity of each
 * direction; what would wait longer than MAX_WAIT for its turn is dropped, as a full router does. The dice are seeded with a constant.
 *
 * It prints "ready" when both devices exist. The namespace is /proc/PID/ns/net. SIGUSR1: from now on every packet is lost; SIGUSR2: no
 * longer. Build: gcc -O2 wan.c -o wan. Needs CAP_NET_ADMIN, CAP_SYS_ADMIN and /dev/net/tun.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MILLION 1000000
#define BILLION 1000000000LL
#define MAX_WAIT (BILLION / 10)
#define MAX_PACKET 2048 /* the devices' MTU is 1500 */
#define BATCH 64        /* packets that are read before those that are due are looked at again */

struct packet {
    struct packet *next;
    int64_t due; /* CLOCK_MONOTONIC, in ns */
    ssize_t size;
    char bytes[];
};

struct direction {
    int from, to;
    struct packet *first, **end; /* in the order of arrival, which is that of delivery, too */
    int64_t free_at;             /* when the last packet will have been put on the wire */
    uint64_t dice;
};

static int64_t delay, bytes_per_s;
static unsigned loss;
static volatile sig_atomic_t broken;

static void on_signal(int number) {
    broken = number == SIGUSR1;
}

static void fail(const char *what) {
    fprintf(stderr, "wan: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * BILLION + time.tv_nsec;
}

static int tun(const char *name) {
    struct ifreq wanted = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int file = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) fail("/dev/net/tun");
    snprintf(wanted.ifr_name, sizeof wanted.ifr_name, "%s", name);
    if (ioctl(file, TUNSETIFF, &wanted)) fail(name);
    return file;
}

/* xorshift64: the same dice on every system */
static unsigned throw_dice(struct direction *way) {
    way->dice ^= way->dice << 13;
    way->dice ^= way->dice >> 7;
    way->dice ^= way->dice << 17;
    return way->dice % MILLION;
}

/* When a packet of this size that came at `time` is delivered; 0: never. */
static int64_t fate(struct direction *way, ssize_t size, int64_t time) {
    int lost = throw_dice(way) < loss || broken;
    if (!bytes_per_s) return lost ? 0 : time + delay;
    int64_t start = way->free_at > time ? way->free_at : time;
    if (start - time > MAX_WAIT) return 0;
    way->free_at = start + size * BILLION / bytes_per_s;
    return lost ? 0 : way->free_at + delay;
}

static void take(struct direction *way) {
    char buffer[MAX_PACKET];
    for (int count = 0; count < BATCH; count++) {
        ssize_t size = read(way->from, buffer, sizeof buffer);
        if (size <= 0) return;
        int64_t due = fate(way, size, now());
        struct packet *packet = due ? malloc(sizeof *packet + size) : NULL;
        if (!packet) continue;
        *packet = (struct packet){.due = due, .size = size};
        memcpy(packet->bytes, buffer, size);
        *way->end = packet;
        way->end = &packet->next;
    }
}

/* Returns when the next packet is due; 0: there is none. */
static int64_t give(struct direction *way) {
    struct packet *packet;
    while ((packet = way->first) && packet->due <= now()) {
        if (write(way->to, packet->bytes, packet->size) < 0) { /* the device is down, or full: lost, as on a wire */
        }
        if (!(way->first = packet->next)) way->end = &way->first;
        free(packet);
    }
    return packet ? packet->due : 0;
}

static struct timespec until(int64_t due) {
    int64_t left = due - now();
    if (left < 0) left = 0;
    return (struct timespec){left / BILLION, left % BILLION};
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: wan NEAR FAR DELAY_US LOSS_PPM BYTES_PER_S\n");
        return 2;
    }
    delay = atoll(words[3]) * 1000;
    loss = atoi(words[4]);
    bytes_per_s = atoll(words[5]);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    prctl(PR_SET_TIMERSLACK, 1UL);
    int near = tun(words[1]);
    if (unshare(CLONE_NEWNET)) fail("unshare");
    int far = tun(words[2]);
    struct direction ways[2] = {{.from = near, .to = far, .dice = 20260101}, {.from = far, .to = near, .dice = 20270101}};
    for (int i = 0; i < 2; i++) ways[i].end = &ways[i].first;
    puts("ready");
    fflush(stdout);
    struct pollfd files[2] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN}};
    for (;;) {
        int64_t a = give(&ways[0]), b = give(&ways[1]);
        int64_t next = a && b ? (a < b ? a : b) : a + b;
        struct timespec time = until(next);
        int found = ppoll(files, 2, next ? &time : NULL, NULL);
        if (found < 0 && errno != EINTR) fail("ppoll");
        for (int i = 0; i < 2 && found > 0; i++)
            if (files[i].revents) take(&ways[i]);
    }
}

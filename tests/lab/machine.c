/* Process 1 of the lab's machines, each in PID, mount and UTS namespaces of its own.
 *
 *   machine LAB NAME…        (-NAME: without Slurm's commands)
 *
 * LAB is the lab's folder, directly below /tmp; what is kept about a machine is in LAB/machines/NAME. There, /tmp, /dev/shm, /proc and
 * the host name are the machine's own; /etc has the lab's users; LAB is there for all machines, as a cluster's shared file system is.
 * For each name it leaves a process behind that only waits for orphans. When that is killed, all that runs on the machine is.
 * It writes its line of the outer /proc/PID/stat to `init`. All are up when this program ends; what fails is said in the machine's `log`.
 *
 * Build: gcc -O2 machine.c -o machine. One program instead of a script with a dozen commands: a machine is up in a tenth of the time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int failed, const char *what) {
    if (!failed) return;
    fprintf(stderr, "machine: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *text(const char *format, const char *a, const char *b) {
    char *made;
    check(asprintf(&made, format, a, b) < 0, "asprintf");
    return made;
}

static void put(const char *path, const char *bytes, ssize_t size) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    check(file < 0 || write(file, bytes, size) != size || close(file), path);
}

/* Who this is, in the numbers of the host, whose /proc is still mounted. */
static void record(const char *path) {
    char line[1024];
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, line, sizeof line);
    check(size <= 0 || close(file), "/proc/self/stat");
    put(path, line, size);
}

static void overlay(const char *upper, const char *lower) {
    char *options = text("lowerdir=%s:%s", upper, lower);
    check(mount("overlay", lower, "overlay", MS_RDONLY, options), lower);
    free(options);
}

static void furnish(const char *lab, const char *here, int bare) {
    char *own = text("%s/tmp%s", here, ""), *shared = text("%s%s", own, strrchr(lab, '/'));
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
    check(mount(lab, shared, NULL, MS_BIND, NULL), shared);
    check(mount(own, "/tmp", NULL, MS_BIND | MS_REC, NULL), "/tmp");
    check(mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"), "/dev/shm");
    overlay(text("%s/etc%s", lab, ""), "/etc");
    if (bare) overlay(text("%s/without-slurm%s", lab, ""), "/usr/bin");
    check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "/proc");
}

static void wait_for_orphans(void) {
    sigset_t child;
    int number;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    for (;;) {
        sigwait(&child, &number);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}

static void live(const char *lab, const char *name, int bare, int ready) {
    char *here = text("%s/machines/%s", lab, name);
    int log = open(text("%s/log%s", here, ""), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    check(dup2(nothing, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0, "log");
    record(text("%s/init%s", here, ""));
    furnish(lab, here, bare);
    check(sethostname(name, strlen(name)), "sethostname");
    check(chdir("/"), "/");
    check(write(ready, "y", 1) != 1 || close(ready), "ready");
    wait_for_orphans();
}

/* The process between only makes the namespaces, and waits until its child is ready. */
static int start(const char *lab, const char *name, int bare) {
    int ready[2];
    char answer;
    check(setsid() < 0, "setsid");
    check(pipe2(ready, O_CLOEXEC), "pipe");
    check(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS), "unshare");
    pid_t first = fork();
    check(first < 0, "fork");
    if (!first) live(lab, name, bare, ready[1]);
    close(ready[1]);
    return read(ready[0], &answer, 1) != 1;
}

int main(int count, char **words) {
    if (count < 3 || !strrchr(words[1], '/')) {
        fprintf(stderr, "usage: machine LAB [-]NAME...\n");
        return 2;
    }
    for (int i = 2; i < count; i++) {
        int bare = words[i][0] == '-', status;
        pid_t between = fork();
        check(between < 0, "fork");
        if (!between) return start(words[1], words[i] + bare, bare);
        check(waitpid(between, &status, 0) < 0, "waitpid");
        if (status) fprintf(stderr, "machine: %s did not start\n", words[i] + bare);
        if (status) return 1;
    }
    return 0;
}

/* Injects one fault into the calls of a process that change files below given directories.

   It is loaded with LD_PRELOAD and does nothing until `arm` is called. All calls of the process that change something
   below one of the directories have one count, from 0. At the chosen count the process is killed, or the call fails
   with an error number, or a write is short. A fault that stays also meets every later call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING = 0, KILL = -1, SHORT = -2 }; /* a positive fault is an error number */

static char directories[4][PATH_MAX];
static int known, fault, stays;
static long chosen, count;
static char met[64]; /* the name of the call that met the fault */

void arm(const char *one, const char *other, long number, int what, int lasting) {
    snprintf(directories[0], PATH_MAX, "%s", one);
    snprintf(directories[1], PATH_MAX, "%s", other);
    known = 2, chosen = number, fault = what, stays = lasting, count = 0, met[0] = 0;
}
void disarm(void) { known = 0; }
long calls(void) { return count; }
const char *met_call(void) { return met; }

static int is_below(const char *path) {
    for (int i = 0; i < known; i++) {
        size_t length = strlen(directories[i]);
        if (length && !strncmp(path, directories[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static int descriptor_is_below(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!known || descriptor < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int path_is_below(int directory, const char *path) {
    if (!known || !path) return 0;
    return path[0] == '/' || directory == AT_FDCWD ? is_below(path) : descriptor_is_below(directory);
}

/* The fault that this call meets. A process has only a few threads that write, so the count needs no lock. */
static int next_fault(const char *name) {
    long number = count++;
    if (!fault || number < chosen || (number > chosen && !stays)) return NOTHING;
    if (!met[0]) snprintf(met, sizeof met, "%s", name);
    if (fault == KILL) kill(getpid(), SIGKILL);
    return fault;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define FAIL_IF(is_ours, name) \
    if (is_ours) { \
        int found = next_fault(name); \
        if (found > 0) { errno = found; return -1; } \
    }

#define OPEN_AT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        FAIL_IF(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) && path_is_below(directory, path), "open") \
        return real(directory, path, flags, mode); \
    }
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        FAIL_IF(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) && path_is_below(AT_FDCWD, path), "open") \
        return real(path, flags, mode); \
    }
/* The parameters behind the size are in `declared` and `given`, each with its comma. */
#define WRITE(name, declared, given) \
    ssize_t name(int descriptor, const void *bytes, size_t size declared) { \
        REAL(ssize_t, #name, int, const void *, size_t declared); \
        if (descriptor > 2 && descriptor_is_below(descriptor)) { \
            int found = next_fault(#name); \
            if (found > 0) { errno = found; return -1; } \
            if (found == SHORT && size > 1) size /= 2; \
        } \
        return real(descriptor, bytes, size given); \
    }
#define NONE
#define OFFSET_DECLARED , off_t offset
#define OFFSET_GIVEN , offset

OPEN_AT(openat)
OPEN_AT(openat64)
OPEN(open)
OPEN(open64)
WRITE(write, NONE, NONE)
WRITE(pwrite, OFFSET_DECLARED, OFFSET_GIVEN)
WRITE(pwrite64, OFFSET_DECLARED, OFFSET_GIVEN)

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    FAIL_IF(descriptor > 2 && descriptor_is_below(descriptor), "writev")
    return real(descriptor, parts, number);
}

int close(int descriptor) {
    REAL(int, "close", int);
    if (known && descriptor > 2 && (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY
        && descriptor_is_below(descriptor)) {
        int found = next_fault("close");
        if (found > 0) { real(descriptor); errno = found; return -1; } /* Linux closes it all the same */
    }
    return real(descriptor);
}

int fsync(int descriptor) {
    REAL(int, "fsync", int);
    FAIL_IF(descriptor_is_below(descriptor), "fsync")
    return real(descriptor);
}
int fdatasync(int descriptor) {
    REAL(int, "fdatasync", int);
    FAIL_IF(descriptor_is_below(descriptor), "fdatasync")
    return real(descriptor);
}
int flock(int descriptor, int operation) {
    REAL(int, "flock", int, int);
    FAIL_IF(descriptor_is_below(descriptor), "flock")
    return real(descriptor, operation);
}
int ftruncate(int descriptor, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    FAIL_IF(descriptor_is_below(descriptor), "ftruncate")
    return real(descriptor, size);
}
int ftruncate64(int descriptor, off_t size) {
    REAL(int, "ftruncate64", int, off_t);
    FAIL_IF(descriptor_is_below(descriptor), "ftruncate")
    return real(descriptor, size);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    FAIL_IF(path_is_below(AT_FDCWD, path), "mkdir")
    return real(path, mode);
}
int mkdirat(int directory, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    FAIL_IF(path_is_below(directory, path), "mkdir")
    return real(directory, path, mode);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    FAIL_IF(path_is_below(AT_FDCWD, path), "unlink")
    return real(path);
}
int unlinkat(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    FAIL_IF(path_is_below(directory, path), "unlink")
    return real(directory, path, flags);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    FAIL_IF(path_is_below(AT_FDCWD, path), "rmdir")
    return real(path);
}
int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    FAIL_IF(path_is_below(AT_FDCWD, new), "rename")
    return real(old, new);
}
int renameat(int one, const char *old, int other, const char *new) {
    REAL(int, "renameat", int, const char *, int, const char *);
    FAIL_IF(path_is_below(other, new), "rename")
    return real(one, old, other, new);
}
int renameat2(int one, const char *old, int other, const char *new, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    FAIL_IF(path_is_below(other, new), "renameat2")
    return real(one, old, other, new, flags);
}
int linkat(int one, const char *old, int other, const char *new, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    FAIL_IF(path_is_below(other, new), "link")
    return real(one, old, other, new, flags);
}

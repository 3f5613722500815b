/* file_call.h: the system calls behind the door to files, one function each, and how a test makes one of them fail. Only ir/file.c and
 * ir/file_write.c call these. A call that was interrupted (EINTR) is made again here, so nobody above sees it. Each costs one counter more than the
 * call itself. */
#ifndef AQ_IR_FILE_CALL_H
#define AQ_IR_FILE_CALL_H

#include "ir/status.h"

#include <sys/stat.h>
#include <sys/types.h>

typedef enum aq_file_call {
    AQ_CALL_OPEN, AQ_CALL_STAT, AQ_CALL_MAP, AQ_CALL_READ, AQ_CALL_WRITE, AQ_CALL_SYNC, AQ_CALL_CLOSE, AQ_CALL_RENAME, AQ_CALL_UNLINK, AQ_CALL_MKDIR,
    AQ_CALL_LIST, AQ_FILE_CALLS
} aq_file_call;

int aq_call_open(const char *path, int flags, mode_t mode);
int aq_call_stat(const char *path, struct stat *out);
int aq_call_lstat(const char *path, struct stat *out);
int aq_call_fstat(int fd, struct stat *out);
void *aq_call_map(int fd, size_t size); /* NULL on failure */
void aq_call_unmap(void *at, size_t size);
void aq_call_forget(void *at, size_t size); /* its pages come from the file again when they are touched */
ssize_t aq_call_read(int fd, void *to, size_t n);
ssize_t aq_call_write(int fd, const void *from, size_t n);
int aq_call_sync(int fd);
int aq_call_close(int fd); /* never made again: the number is free whatever close says */
int aq_call_rename(const char *from, const char *to);
int aq_call_unlink(const char *path);
int aq_call_mkdir(const char *path);
/* The names in a folder, but for "." and "..", until call says no (0). */
int aq_call_list(const char *folder, int (*call)(void *user, const char *name), void *user);

/* For tests: the Nth such call from now (1 = the next) fails once with this errno and does nothing; AQ_CALL_SHORT: it reads or writes half of what it was
 * asked for, and what is no read or write goes well. nth 0 switches it off. Counted are calls, not their repetitions. */
enum { AQ_CALL_SHORT = -1 };
void aq_file_fail(aq_file_call call, long nth, int error);
long aq_file_calls(aq_file_call call); /* made since the last aq_file_fail */
int aq_file_failed(void);              /* did it come to that since then? */

#endif

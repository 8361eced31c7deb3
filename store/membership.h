/* store/membership.h: who is in a conversation: coming, going, roles and since when, and the
 * effects by which the lists of users learn of it.
 * Thread: the one that applies. Errors: of kv. */
#ifndef LOQUAT_STORE_MEMBERSHIP_H
#define LOQUAT_STORE_MEMBERSHIP_H

#include "store/state.h"

enum { MEMBER_ROLES_MAX = 64 }; /* roles of a member that are remembered */

/* Makes the user a member, or an old one again. *joined: false when already in. The caller saves
 * the header and tells the user. */
int membership_join(struct apply *apply, struct conv *conv, struct span user, uint32_t role,
                    uint64_t seq, bool *joined);
/* Out, by the record `seq`; saves and tells. `removed`: by somebody else. */
void membership_end(struct apply *apply, struct conv *conv, struct member *member, uint64_t seq,
                    bool removed);
/* From the record `seq` on. The caller saves, and counts owners. */
void membership_set_role(struct apply *apply, Loquat__Member *row, uint64_t seq, uint32_t role);
/* Right after the record `seq`. Of before ENTRY_VERSION_SOCIAL only the newest change is known. */
uint32_t membership_role_at(const Loquat__Member *row, uint64_t seq);
/* The record by which a user who was in right after `seq` had come: the oldest that is known. */
uint64_t membership_joined_at(const Loquat__Member *row, uint64_t seq);

/* The lists of users, in their partitions: the conversation came or went, by the record `stamp`. */
void membership_tell(struct apply *apply, const struct conv *conv, char *user, bool gone,
                     uint64_t stamp);
void membership_tell_all(struct apply *apply, const struct conv *conv, char **users, size_t count,
                         uint64_t stamp);

#endif

#include "store/reactions.h"

#include <string.h>

#include "store/base/err.h"

int reactions_give(Loquat__Item *item, const Loquat__Fold *fold, struct span own,
                   struct arena *arena)
{
    item->n_reactions = fold->n_reactions;
    item->reactions = fold->reactions;
    Loquat__UserReactions *row =
        loquat__user_reactions__unpack(&arena->allocator, own.n, (const uint8_t *)own.p);
    if (row == NULL)
        return ERR_CORRUPT;
    for (size_t i = 0; i < item->n_reactions; i++)
        for (size_t k = 0; k < row->n_emojis && !item->reactions[i]->me; k++)
            item->reactions[i]->me = strcmp(item->reactions[i]->emoji, row->emojis[k]) == 0;
    return 0;
}

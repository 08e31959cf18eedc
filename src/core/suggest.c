#include "core/suggest.h"

#define LONGEST 64

void suggest_begin(struct suggest *suggest, struct str word)
{
	*suggest = (struct suggest){.word = word, .distance = word.len / 3 + 2};
}

static size_t least(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;
	return ab < c ? ab : c;
}

/* Edits (insert, delete, replace, swap neighbours) from one text to the other. Both are at most LONGEST long. */
static size_t edit_distance(struct str a, struct str b)
{
	size_t rows[3][LONGEST + 1];
	size_t *before = rows[0], *previous = rows[1], *row = rows[2];
	for (size_t j = 0; j <= b.len; j++)
		previous[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t replace = previous[j - 1] + (a.at[i - 1] != b.at[j - 1]);
			row[j] = least(previous[j] + 1, row[j - 1] + 1, replace);
			bool swapped = i > 1 && j > 1 && a.at[i - 1] == b.at[j - 2] && a.at[i - 2] == b.at[j - 1];
			if (swapped && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		size_t *oldest = before;
		before = previous;
		previous = row;
		row = oldest;
	}
	return previous[b.len];
}

void suggest_offer(struct suggest *suggest, struct str name)
{
	if (name.len == 0 || name.len > LONGEST || suggest->word.len == 0 || suggest->word.len > LONGEST)
		return;
	size_t distance = edit_distance(suggest->word, name);
	if (suggest->word.len >= 3 && str_starts(name, suggest->word))
		distance = 1; /* cut short rather than mistyped */
	if (distance < suggest->distance && distance < name.len) {
		suggest->distance = distance;
		suggest->best = name;
	}
}

// Rows that are made ahead: the parity of four whole blocks, taken when they have just been copied
// in and are still near the processor. At the flush they would have to be fetched once more.
//
// Which blocks will share a row is foreseen: the flush writes data in the order in which it became
// dirty, behind the summary. A row that is made is written as it is, wherever it comes to stand. It
// dissolves when one of its blocks is changed, or dies, or would not begin where a row begins; then
// its parity is taken at the flush like that of all others.

#include "fs/core/store.h"

namespace nemesis::fs {

/// So many blocks of data a segment takes from its first row on: a partial segment with as many as
/// a summary names, and one in the rows that are left.
constexpr u64 data_of_segment =
    summary_slots + (rows_per_segment - (1 + summary_slots + columns - 1) / columns) * columns - 1;

/// Whether the block that has become dirty last will begin a row, if a flush came now. However much
/// is dirty, it looks at four partial segments at most.
bool Store::begins_row() const {
    u64 n = dirty_data_ - 1;
    u32 rows = rows_per_segment - head_[head_hot].row;
    for (;;) {
        if (rows == 0) {
            rows = rows_per_segment;
            n %= data_of_segment;
        }
        u64 const room = rows * columns - 1;  // behind the summary
        u64 const blocks = room < summary_slots ? room : summary_slots;
        if (n < blocks) return (n + 1) % columns == 0 && n + columns <= blocks;
        n -= blocks;
        rows -= static_cast<u32>(1 + blocks + columns - 1) / columns;
    }
}

/// A whole block has just been written into the frame. requires: dirty, `crc` is its checksum
void Store::join_row(Frame& f) {
    ASSERT(f.dirty && f.summed && !f.row);
    if (forming_count_ == 0 && !begins_row()) return;
    forming_[forming_count_++] = &f;
    if (forming_count_ == 1 && free_rows_) {
        // The parity's memory is asked for while the other blocks are copied.
        for (u32 i = 0; i < block_bytes; i += 64) __builtin_prefetch(free_rows_->parity + i, 1);
    }
    if (forming_count_ < columns) return;
    forming_count_ = 0;
    ReadyRow* const row = free_rows_;
    if (!row) return;
    free_rows_ = row->next;
    u8 const* data[columns];
    for (u32 k = 0; k < columns; ++k) {
        row->block[k] = forming_[k];
        data[k] = forming_[k]->data;
        forming_[k]->row = row;
    }
    parity_of(row->parity, data);
}

/// The frame's content, or its place in the log, will not be what its row was made for.
void Store::leave_row(Frame& f) {
    for (u32 i = 0; i < forming_count_; ++i) {
        if (forming_[i] == &f) forming_count_ = 0;
    }
    if (f.row) dissolve(*f.row);
}

void Store::dissolve(ReadyRow& row) {
    for (Frame* f : row.block) f->row = nullptr;
    row.next = free_rows_;
    free_rows_ = &row;
}

/// Whether a whole row comes next in the open partial segment.
bool Store::at_row() const {
    return open_ && open_->head == head_hot && open_->blocks % columns == 0 &&
           open_->blocks + columns <= (rows_per_segment - open_->row) * columns &&
           open_->slots + columns <= summary_slots;
}

/// What a flush writes next of the data: a row where one can stand, else a block that is in none.
/// It looks no further than a row has blocks, so that the order is kept but for a few.
Frame& Store::next_data() const {
    bool const row = at_row();
    Frame const& end = dirty_[0];
    Frame* f = end.dirty_next;
    for (u32 i = 0; i < columns && f != &end; ++i, f = f->dirty_next) {
        if ((f->row != nullptr) == row) return *f;
    }
    return *end.dirty_next;
}

/// Gives the blocks of a row their addresses, and its parity to the open partial segment.
/// requires: at_row
void Store::serialize_row(ReadyRow& row) {
    Partial& p = *open_;
    u32 const r = p.blocks / columns;
    u8* const parity = row.parity;
    row.parity = p.parity[r];
    p.parity[r] = parity;
    p.parity_ready |= u64{1} << r;
    dissolve(row);
    for (Frame* f : row.block) serialize(*f);
    ++statistics_.rows_ahead;
}

}  // namespace nemesis::fs

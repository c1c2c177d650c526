"""Operations that are compiled against numpy."""

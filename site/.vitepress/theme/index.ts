/** The default theme, without its fonts: those of the reader's system will do, and cost nothing. */
import theme from 'vitepress/theme-without-fonts'
import './style.css'

// biome-ignore lint/style/noDefaultExport: VitePress asks for it.
export default theme

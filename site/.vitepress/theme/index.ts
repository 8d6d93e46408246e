/** The default theme, without its fonts: those of the reader's system will do, and cost nothing. */
import theme from 'vitepress/theme-without-fonts'
import { h } from 'vue'
import './style.css'

const commands = ['npm install cook-daemon', 'npx cook-daemon start app.js', 'npx cook-daemon upgrade app']

export default {
  extends: theme,
  // The three commands stand where others have a picture.
  Layout: () =>
    h(theme.Layout, null, { 'home-hero-image': () => h('pre', { class: 'hero-commands' }, commands.join('\n')) }),
}
